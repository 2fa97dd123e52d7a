// What the user reads beside a status: what it means, and what to do.
#include "words.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "parameters.h"

namespace backline::words {
namespace {

std::string in_seconds(double seconds) {
    return parameter_to_text(kLatencyBudget, seconds);
}

// Between two characters, and so that one sees it.
std::string cut(const std::string& text, size_t most) {
    constexpr const char* kMore = "\u2026";
    if (text.size() <= most) return text;
    size_t length = most - std::string(kMore).size();
    while (length > 0 && (text[length] & 0xc0) == 0x80) --length;
    return text.substr(0, length) + kMore;
}

// What to do, and in brackets why, as far as there is room.
std::string brief(const std::string& remedy, const std::string& reason = "") {
    constexpr size_t kLeast = 16;  // of a reason that says anything
    const size_t room = remedy.size() + 3 < kBrief ? kBrief - remedy.size() - 3 : 0;
    if (reason.empty() || room < kLeast) return cut(remedy, kBrief);
    return remedy + " (" + cut(reason, room) + ")";
}

Words words(const std::string& whole, const std::string& brief_words) {
    return {whole, cut(brief_words, kBrief)};
}

// What asks less of the network and the machine: with Timing auto, Visibility and Chunk are what the server advised.
const char* easier(bool automatic) {
    return automatic ? "use a nearer or faster server" : "lower Visibility or Chunk";
}

// The latency budget that would do, in tenths of a second: what a user sets.
std::string budget_for(double seconds, bool automatic) {
    const double most = parameters()[kLatencyBudget].maximum, wanted = std::ceil(10.0 * seconds - 1e-6) / 10.0;
    if (wanted > most) return easier(automatic);
    std::string text = in_seconds(wanted);
    text.erase(text.find('.') + 2, 2);
    return "raise Latency budget to " + text + ", or " + easier(automatic);
}

std::string remedy_for(const net::Status& status) {
    switch (status.code) {
        case net::kOk:
            return "another session opens";
        case net::kInvalidArgument:
            return "set Visibility and Chunk to auto, or choose another Pack";
        case net::kDeadlineExceeded:
            return "give the server's machine less to do";
        case net::kNotFound:
            return "choose another Pack, or install this one";
        case net::kPermissionDenied:
            return "choose a Pack that your key plays";
        case net::kUnauthenticated:
            return "write a key into servers.toml";
        case net::kResourceExhausted:
            return "end another session, or give the server more room";
        case net::kFailedPrecondition:
        case net::kAborted:
            return "play on, or choose another Pack";
        case net::kUnavailable:
            return "start `backline serve`";
        default:
            return "look into the server's log";
    }
}

}  // namespace

Words inactive() {
    return words("Not active: the host does not play through this instance.",
                 "switch the plugin on in the host, which does not play through it");
}

Words looking() {
    return words("Looking for a server; the input passes dry.", "looking for a server; dry meanwhile");
}

Words idle() {
    return words("Nobody plays: the session is left to others, and comes back with the first sound or play.",
                 "plays again with the first sound or play");
}

Words opening(const std::string& pack) {
    return words("The server opens pack '" + pack + "'; until then the input passes dry.",
                 "wait until the server has opened " + pack + "; dry meanwhile");
}

Words own_problem(const std::string& what) {
    return words(
        "The plugin met a problem of its own (" + what + "). It begins anew in a second; the input passes dry.",
        brief("begins anew in a second", what));
}

Words no_server(const net::Status& why, bool bounces) {
    const std::string remedy = why.code == net::kInvalidArgument ? "write unix:/path or host:port into BACKLINE_ADDRESS"
                               : why.code == net::kUnauthenticated ? "look at servers.toml"
                                                                   : "start `backline serve`";
    return words(why.message + (bounces ? ". The bounce holds dry from there." : ". The input passes dry."),
                 brief(remedy + (bounces ? "; bounce again" : ""), why.message));
}

Words too_late_for_bounce(double least_seconds, double budget_seconds, bool automatic) {
    return words("Waiting cannot help a bounce whose output needs input from " + in_seconds(least_seconds) +
                     " later: raise the latency budget (" + in_seconds(budget_seconds) + "), or " +
                     easier(automatic) + ". It holds dry.",
                 budget_for(least_seconds, automatic) + "; bounce again");
}

Words playing(const Play& play) {
    std::string whole = "Pack '" + play.pack + "' needs a latency of " + in_seconds(play.needed_seconds) + " and has " +
                        in_seconds(play.budget_seconds) + ".";
    std::string what_to_do;
    const bool automatic = play.advice.has_value();
    if (play.too_small && play.live) {
        what_to_do = std::string(easier(automatic)) + ", or set Mode to follow";
    } else if (play.too_small) {
        what_to_do = budget_for(play.needed_seconds, automatic);
    } else if (automatic && play.advice->verdict == net::Verdict::infeasible) {
        what_to_do = std::string(easier(automatic)) + ", or a smaller pack";
    }
    if (!what_to_do.empty()) {
        std::string sentence = what_to_do + ".";
        sentence[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(sentence[0])));
        whole += " " + sentence;
    } else if (play.missed) {
        whole += " Some output came too late lately; the input passed dry where it was missing.";
        what_to_do = "give the server's machine less to do";
    }
    if (play.missed && play.frames) {
        whole += " It takes codec frames beside the audio, which no plugin sends, and may be waiting for them.";
        what_to_do = "choose another Pack: this one may wait for codec frames, which no plugin sends";
    }
    if (play.cut) {
        whole += " Something on the way to the server ends each stream after 1 MB: in nginx, client_max_body_size 0.";
        what_to_do = "in nginx, client_max_body_size 0: a proxy ends each stream after 1 MB";
    }
    if (play.lost_midi > 0)
        whole += " " + std::to_string(play.lost_midi) + " MIDI messages came too fast and were left out.";
    if (play.advice) {
        static constexpr const char* kVerdicts[] = {"unknown", "safe", "tight", "infeasible"};
        const auto verdict = static_cast<size_t>(play.advice->verdict);
        whole += " Timing auto chose chunks of " + in_seconds(play.advice->chunk_seconds) + " and a visibility of " +
                 parameter_to_text(kVisibility, play.advice->visibility_seconds) + ": " + kVerdicts[verdict < 4 ? verdict : 0] + " (" +
                 play.advice->reason + ").";
    }
    if (!play.metre.empty())
        whole += " It has learnt " + play.learnt + ": in " + play.metre +
                 " it keeps your beats and begins its bar on yours.";
    const std::string seed = "seed " + std::to_string(play.seed);
    if (play.seed > 0) whole += " It plays with " + seed + ".";
    std::string facts = "needs " + in_seconds(play.needed_seconds) + " of " + in_seconds(play.budget_seconds);
    if (play.seed > 0) facts = seed + "; " + facts;
    if (!play.metre.empty()) facts += "; knows " + play.learnt + ", not " + play.metre;
    return words(whole, what_to_do.empty() ? facts : brief(what_to_do, facts));
}

Words ended(const net::Status& status, bool bounces, bool asks) {
    const std::string reason = status.ok() ? "the server has closed the session" : status.message;
    const std::string where =
        status.code == net::kUnauthenticated ? ". The plugin takes its key from " + net::servers_file() : "";
    return words(reason + where +
                     (bounces ? ". The bounce holds dry from there."
                      : asks  ? ". The input passes dry; the server is asked again now and then, and on play."
                              : ". The input passes dry."),
                 brief(remedy_for(status) + (bounces ? "; bounce again" : ""), reason));
}

Words hurried(double dry_seconds, const Words& otherwise) {
    return words("The host pulls faster than time without saying that it bounces, and " + in_seconds(dry_seconds) +
                     " passed dry: bounce again, offline or in real time. " + otherwise.whole,
                 brief("bounce again, offline or in real time", otherwise.brief));
}

}  // namespace backline::words
