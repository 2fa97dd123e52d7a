// What the user reads beside a status: what it means, and what to do.
//
// Twice: whole, and brief for hosts that show 127 UTF-16 units of a value (VST3), the status's own name among them.
// There what to do comes first, and what was the matter as far as there is room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "net/connection.h"

namespace backline {

struct Words {
    std::string whole;
    std::string brief;  // at most kBrief bytes of UTF-8, which are as many units or fewer
};

constexpr size_t kBrief = 127 - sizeof "budget too small:";  // the longest name, colon and space

namespace words {

Words inactive();
Words looking();
Words idle();
Words opening(const std::string& pack);
Words own_problem(const std::string& what);

// No server, of those that were tried: none is there, or one is and may not be spoken to (kUnauthenticated), or the
// address itself is none (kInvalidArgument). A bounce has given up for that.
Words no_server(const net::Status& why, bool bounces);

// A bounce whose output cannot come in time, however long anybody waits.
Words too_late_for_bounce(double least_seconds, double budget_seconds, bool automatic);

struct Play {
    std::string pack;
    uint64_t seed = 0;
    double needed_seconds = 0.0, budget_seconds = 0.0;
    bool live = false;       // mode: the budget is none
    bool missed = false;     // wet was due lately and was not there
    bool too_small = false;  // and the budget is less than what is needed
    bool cut = false;        // streams end as if a proxy allowed no more
    bool frames = false;     // the pack takes codec frames
    uint64_t lost_midi = 0;
    std::optional<net::Advice> advice;  // that it was opened with
    std::string learnt, metre;  // the metres that the pack has learnt, and the host's, where that is none of them
};
Words playing(const Play& play);

// A session, or what was to become one, has ended. `again`: another is to be expected at once; `asks`: the server is
// asked now and then.
Words ended(const net::Status& status, bool bounces, bool asks);

// The host has pulled faster than time without saying that it bounces.
Words hurried(double dry_seconds, const Words& otherwise);

}  // namespace words
}  // namespace backline
