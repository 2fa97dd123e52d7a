// connect, play, connect again: the worker's life in the order in which it happens.
#include "worker.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <random>
#include <utility>

#include "net/address.h"

namespace backline {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kShortestBackOff{50}, kLongestBackOff{1000};
constexpr milliseconds kFirstLook{2000}, kNextLook{30'000};  // after the server has said no: two requests a minute
constexpr milliseconds kServerPatience{1000};                // of a bounce, until a server is there
constexpr int kCarryMilliseconds = 2;                        // between looks at the rings while audio comes
constexpr int kIdleMilliseconds = 20;                        // while none does
constexpr int kAnswerMilliseconds = 10'000;  // a server that is gone shows sooner: the connection is lost
constexpr int kLoadMilliseconds = 600'000;   // until it can advise: it loads the pack and warms it up first
constexpr int kRoundTrips = 4;               // that are measured
constexpr double kSpareSeconds = 0.02;       // of the latency that is not filled with input from before a session
constexpr double kBehindSeconds = 2.0;       // of input that may wait for a server that does not take it
constexpr milliseconds kFarewell{250};       // that a server has to end a session before another one is asked for
constexpr milliseconds kLastFarewell{60};    // and before this thread ends

}  // namespace

Worker::Worker(Settings& settings, Exchange& exchange, Shown& shown, Advised& advised)
    : settings_(settings),
      exchange_(exchange),
      back_off_(kShortestBackOff),
      timing_(exchange.activation.timing),
      shown_(shown),
      advised_(advised) {
    say(Status::connecting, words::looking());
    thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
    stop_ = true;
    exchange_.wake_worker();
    thread_.join();
}

Words Worker::words() const {
    const std::lock_guard lock(mutex_);
    return shown_words_;
}

// The host's process must outlive whatever happens here.
void Worker::run() {
    for (bool again = true, begun = false; !stopping();) {
        try {
            if (!std::exchange(begun, true)) settings_.prompts.set_default(written_bank());
            if (!again) pause();
            if (session_ && !returns()) leave();
            again = connect() && play();
        } catch (const std::exception& error) {
            again = false;
            recover(error.what());
        }
    }
    take_leave();
    connection_.reset();
}

// Begins anew, after a moment: what went wrong is most likely a want of memory.
void Worker::recover(const char* what) noexcept {
    exchange_.session_start = kNoSession;
    session_.reset();
    farewell_.reset();
    list_.reset();
    connection_.reset();
    back_off_ = kLongestBackOff;
    waiting_ = false;
    try {
        give_up(Status::failed, words::own_problem(what));
    } catch (const std::exception&) {  // not even that: the status says it without words
        shown_.status = Status::failed;
    }
}

// ---- connecting ------------------------------------------------------------------------------------------------

bool Worker::connect() {
    const std::string endpoint = settings_.endpoint();
    const bool rewritten = servers_.look();
    if (connection_ && !connection_->lost() && endpoint == endpoint_ && !rewritten) return true;
    endpoint_ = endpoint;
    list_.reset();
    connection_.reset();
    if (!session_) pack_ = net::Pack();
    refusals_ = 0;
    waiting_ = false;
    std::vector<net::Address> addresses;
    net::Status why{net::kInvalidArgument, ""};
    if (net::addresses_of(endpoint, servers_.addresses(), addresses, why.message)) why = {net::kUnavailable, ""};
    for (size_t next = 0; why.code != net::kInvalidArgument && next < addresses.size(); ++next) {
        const net::Status reached = reach(addresses[next]);
        if (stopping()) return false;
        if (reached.ok()) break;
        // Of one that is there and does not fit, the user wants to know more than of those that are not.
        if (reached.code == why.code) why.message += (why.message.empty() ? "" : "; ") + reached.message;
        if (reached.code == net::kUnauthenticated) why = reached;
    }
    if (!connection_ || connection_->lost()) {
        lack_server(why);
        return false;
    }
    missing_server_.reset();
    no_server_ = false;
    ask_for_packs();
    exchange_.reached = true;
    exchange_.missed = false;
    exchange_.announce_progress();
    return true;
}

// Connects to what listens at that address, if it is a server, and one that may hear what is sent there.
net::Status Worker::reach(const net::Address& address) {
    connection_.reset();
    if (!address.local() && !servers_.problem().empty()) return {net::kUnauthenticated, servers_.problem()};
    connection_ = std::make_unique<net::Connection>(address, servers_.access(address));
    while (!connection_->connected() && !connection_->lost() && !stopping()) step(kIdleMilliseconds);
    return connection_->status();
}

// A bounce waits a little for a server that is just being started; the next one does not wait again for none.
void Worker::lack_server(const net::Status& why) {
    exchange_.missed = true;
    if (!missing_server_) missing_server_ = Clock::now();
    if (offline_ && Clock::now() - *missing_server_ >= kServerPatience) no_server_ = true;
    const bool refused = why.code == net::kUnauthenticated;
    if (hopeless() || (offline_ && no_server_))
        give_up(refused ? Status::refused : Status::failed, words::no_server(why, true));
    else
        say(refused ? Status::refused : Status::connecting, words::no_server(why, false));
}

// Nobody waits for the answer: a server that has just started takes long over its first one.
void Worker::ask_for_packs() {
    list_ = connection_->start(net::kListPacks, [this](net::Bytes bytes) {
        net::ListPacksResponse list;
        if (!net::decode(bytes, list)) return;
        settings_.packs.offer(list.packs);
    });
    list_->send(net::ListPacksRequest());
    list_->finish();
}

// Waits before the next attempt, each time longer. Where the server has said no it is asked seldom, but at once when
// somebody plays, and not at all while nobody does.
void Worker::pause() {
    const auto until = Clock::now() + (waiting_ ? refusals_ <= 1 ? kFirstLook : kNextLook : back_off_);
    if (!waiting_) back_off_ = std::min(2 * back_off_, kLongestBackOff);
    const uint32_t take = take_;
    const bool returning = session_ != nullptr;
    while (!stopping() && Clock::now() < until && take == take_ && !(waiting_ && may_be_taken()) &&
           returning == returns())
        step(kIdleMilliseconds);
}

// Whether the server may say something else now, or need not be asked any more.
bool Worker::may_be_taken() const {
    return !wanted() || demand_.calls() != waiting_since_ || version_ != settings_.version() ||
           texts_version_ != settings_.texts_version() || connection_->lost() || servers_.changed() ||
           (!settle_ && stale());
}

// Lets time pass where nothing can be sent: the connection lives on, and input that is too old goes, unless a session
// that is to be taken up again wants it.
void Worker::step(int milliseconds) {
    if (connection_ && !connection_->lost()) {
        connection_->run(milliseconds, exchange_.wake_fd());
    } else {
        exchange_.wait_for_wake(milliseconds);
    }
    exchange_.clear_wake();
    if (farewell_ && farewell_->ended()) farewell_.reset();
    if (session_ && briefed_)
        carry();
    else
        discard();
    if (shown_dry_ != hurried_dry()) show();
}

// ---- a session -------------------------------------------------------------------------------------------------

// From the first block on to whatever ends the session, or its call; false where the next attempt should wait.
bool Worker::play() {
    if (session_) {
        const bool again = resume() ? stream() : session_->ended() && !session_->resumable();
        if (returns()) return again;
        leave();
        return again || reopen_;
    }
    version_ = settings_.version();
    for (bool told = false;; step(started_ ? kIdleMilliseconds : kCarryMilliseconds)) {
        look_at_host();
        follow_pack(static_cast<uint32_t>(settings_.value(kPack)));
        if (started_ && !hopeless() && wanted() && !unheard()) break;
        if (stopping() || version_ != settings_.version()) return true;
        if (connection_->lost()) return false;
        if (!started_ || hopeless() || told) continue;
        told = true;
        refusals_ = 0;
        waiting_ = false;
        if (shown_.status != Status::failed)  // of a bounce that is over: its user is about to look
            say(Status::idle, words::idle());
    }
    bool again = open();
    if (again) {
        begin();
        again = stream();
        if (returns()) return again;
    }
    leave();
    return again || reopen_;
}

// Takes the session up again whose call has broken off; true once it goes on. What is behind by more than can be played
// is left out, unless somebody waits for it.
bool Worker::resume() {
    session_->resume(*connection_);
    while (!session_->ready()) {
        if (session_->ended() && !session_->resumable()) {  // there it is not known any more, or never was
            net::Status forgotten = session_->status();
            if (forgotten.code != net::kUnauthenticated) forgotten.code = net::kUnavailable;
            fail(forgotten);
        }
        if (session_->ended() || stopping() || !wanted() || reopen_ || hopeless()) return false;
        step(kCarryMilliseconds);
    }
    carry();
    const bool late = !awaited() && session_->behind(position()) > session_->patience();
    if (late || !session_->repeat()) {
        if (awaited()) {
            fail({net::kUnavailable, "too much was on its way when the connection broke off"});
            return false;
        }
        begin(session_->start_over());
    }
    cut_at_.reset();
    return true;
}

// Whether there is a session that is worth being taken up again.
bool Worker::returns() const {
    return session_ && session_->resumable() && cut_at_ && !stopping() && !reopen_ && !hopeless() && wanted() &&
           version_ == settings_.version() &&
           Clock::now() - *cut_at_ < std::chrono::duration<double>(session_->lease_seconds());
}

// The session is not wanted any more, or over.
void Worker::leave() {
    cut_at_.reset();
    exchange_.session_start = kNoSession;
    if (!session_) return;
    late_before_ += session_->late_samples();
    if (session_->resumable()) pack_ = net::Pack();  // of a server that may be another one by now
    if (auto farewell = session_->leave()) farewell_ = std::move(farewell), farewell_since_ = Clock::now();
    session_.reset();
}

// The last of it: what keeps a session for us learns that nobody comes back.
void Worker::take_leave() {
    leave();
    const auto until = Clock::now() + kLastFarewell;
    while (farewell_ && !farewell_->ended() && Clock::now() < until) connection_->run(kCarryMilliseconds);
    farewell_.reset();
}

// Asks for the pack and then for a session on it; true once that is ready.
bool Worker::open() {
    briefed_ = reopen_ = drain_ = false;
    if (waiting_since_ != demand_.calls()) refusals_ = 0;
    waiting_since_ = demand_.calls();
    texts_version_ = settings_.texts_version();
    waiting_ = false;
    const auto number = static_cast<uint32_t>(values_[kPack]);
    std::copy(std::begin(values_), std::end(values_), std::begin(wishes_.values));
    wishes_.pack = settings_.packs.name(number);
    wishes_.timing = timing_;
    wishes_.offline = offline_;
    wishes_.seed = seed();
    say(Status::opening, words::opening(wishes_.pack));

    while (farewell_ && !farewell_->ended() && Clock::now() - farewell_since_ < kFarewell) {
        step(kCarryMilliseconds);
        if (stopping() || reopen_) return false;
    }
    farewell_.reset();
    if (!find_pack()) return false;
    follow_pack(number);
    std::copy(values_ + kFirstSlot, std::end(values_), wishes_.values + kFirstSlot);
    texts_version_ = settings_.texts_version();  // with what the pack suggests
    wishes_.texts = texts();
    auto session = std::make_unique<Session>(exchange_, settings_.texts, pack_, wishes_);
    const bool automatic = wishes_.values[kTiming] != 0.0;
    // Who bounces plays by what was heard; who asks again only to be refused again is not told again.
    const bool told = advised_.about(wishes_.pack, seconds(wishes_.timing.latency)) && (awaited() || refusals_ > 0);
    if (automatic && !told && !advise(session->opening())) return false;
    session->open(*connection_, automatic ? advised_.advice : std::nullopt);
    session_ = std::move(session);
    while (!session_->ready()) {
        if (session_->ended()) fail(session_->status());
        if (session_->ended() || stopping() || reopen_ || hopeless()) return false;
        step(kCarryMilliseconds);
    }
    refusals_ = 0;
    if (!fits()) return false;
    demand_.grant(Clock::now());
    ++sessions_;
    return true;
}

// What the user leaves to chance is drawn here, once a take, and not by the server: so that it can be shown, and set.
uint64_t Worker::seed() {
    if (wishes_.values[kSeed] >= 1.0) return static_cast<uint64_t>(wishes_.values[kSeed]);
    if (!take_seed_) {
        std::random_device chance;
        const auto most = static_cast<uint32_t>(parameters()[kSeed].maximum);
        take_seed_ = std::uniform_int_distribution<uint32_t>(1, most)(chance);
    }
    if (shown_.seed.exchange(*take_seed_) != *take_seed_) ++shown_.changes;
    return *take_seed_;
}

// What the server says of the pack that is wished for. Asked again only to be refused again, it is not told again.
bool Worker::find_pack() {
    if (refusals_ > 0 && pack_.name == wishes_.pack) return true;
    const auto needed = [this] { return discard(), !stopping() && !reopen_ && !hopeless(); };
    const net::Status found =
        net::ask(*connection_, net::kGetPack, net::GetPackRequest{wishes_.pack}, pack_, kAnswerMilliseconds, needed);
    if (!found.ok() && needed()) fail(found);
    if (!found.ok()) return false;
    settings_.packs.describe(pack_);
    narrow_to_first_task(pack_);
    return true;
}

// Asks what chunk and visibility come in time over this network; false where the session is not wanted any more.
bool Worker::advise(net::Open open) {
    const auto needed = [this] { return discard(), !stopping() && !reopen_ && !hopeless(); };
    net::AdviseRequest request;
    for (int trip = 0; trip < kRoundTrips; ++trip) {
        net::Pack ignored;
        const auto asked = Clock::now();
        const net::Status answer = net::ask(*connection_, net::kGetPack, net::GetPackRequest{wishes_.pack}, ignored,
                                            kAnswerMilliseconds, needed);
        if (!answer.ok() && needed()) fail(answer);
        if (!answer.ok()) return false;
        const std::chrono::duration<double> took = Clock::now() - asked;
        request.round_trip_seconds = std::max(request.round_trip_seconds, took.count());
    }
    request.latency_seconds = seconds(wishes_.timing.latency);
    request.tempo = known_transport_ ? transport_.tempo : 0.0;
    open.jitter_buffer_seconds = 0.0;  // that is the latency itself
    request.open = std::move(open);
    net::Advice advice;
    const net::Status answer = net::ask(*connection_, net::kAdvise, request, advice, kLoadMilliseconds, needed);
    if (!answer.ok() && answer.code != net::kUnimplemented) {
        if (needed()) fail(answer);
        return false;
    }
    advised_ = {wishes_.pack, request.latency_seconds, std::nullopt};
    if (answer.ok()) advised_.advice = std::move(advice);
    return true;
}

// Has the pack name its parameters, where no session plays by other names.
void Worker::follow_pack(uint32_t number) {
    if (!settings_.follow_pack(number)) return;
    for (uint32_t slot = 0; slot < kSlots; ++slot) values_[kFirstSlot + slot] = settings_.slots.value(slot);
}

// What the pack is to play by where the input has been read to.
NamedTexts Worker::texts() const {
    return settings_.texts_for(pack_, static_cast<uint32_t>(values_[kPrompt]));
}

// As soon as possible: nobody writes a text at a sample.
void Worker::tell_texts() {
    const uint32_t version = settings_.texts_version();
    if (version == texts_version_) return;
    texts_version_ = version;
    session_->send_texts(texts());
}

// Whether waiting can help whoever waits for this session's output.
bool Worker::fits() {
    const double least = session_->needs().least_seconds, budget = seconds(timing_.latency);
    if (!awaited() || least <= budget) return true;
    give_up(Status::budget_too_small, words::too_late_for_bounce(least, budget, wishes_.values[kTiming] != 0.0));
    return false;
}

// Carries audio until the session or its call ends, or it is not what is wanted any more; false where it should have
// gone on, and the next attempt should wait.
bool Worker::stream() {
    const auto opened = Clock::now();
    while (!session_->ended() && !hopeless()) {
        look_at_host();
        carry();
        tell_texts();
        if (version_ != settings_.version()) reopen_ = true;
        if (!awaited() && seconds(exchange_.input.available()) > kBehindSeconds) reopen_ = true;
        if (!awaited() && falls_behind()) {
            session_->break_off();
            break;
        }
        if (reopen_ || stopping()) {
            if (drain_) drain();
            return true;
        }
        if (!wanted()) return true;
        if (!fits()) return false;
        bounced_ = bounced_ || awaited();
        const bool busy = !awaited() && Clock::now() - last_input_ < std::chrono::seconds(1);
        connection_->run(busy ? kCarryMilliseconds : kIdleMilliseconds, exchange_.wake_fd());
        exchange_.clear_wake();
        late_samples_ = late_before_ + session_->late_samples();
        needed_seconds_ = session_->needs().seconds;
        compute_seconds_ = session_->needs().compute_seconds;
        say_playing();
    }
    const net::Status ending =
        session_->ended() ? session_->status() : net::Status{net::kDeadlineExceeded, "the server does not answer"};
    if (Clock::now() - opened > kLongestBackOff) back_off_ = kShortestBackOff;
    // The server needs the place of a session that the host has not played through for long.
    if (session_->ended() && ending.code == net::kDeadlineExceeded) idle_at_ = exchange_.input.written();
    note_end(ending, opened);
    if (session_->resumable() && !hopeless()) {
        if (!cut_at_) cut_at_ = Clock::now();
        say(Status::connecting, words::ended(ending, false, false));
    } else {
        fail(ending);
    }
    return false;
}

// What a session with a lease keeps waiting is more than will be played: it begins anew at the present.
bool Worker::falls_behind() const {
    return session_->lease_seconds() > 0.0 &&
           session_->waiting_seconds() > std::max(kBehindSeconds, seconds(static_cast<uint64_t>(session_->patience())));
}

// What the server must know before the first audio. Live, input from before the session helps as long as its output can
// still be played: also what an earlier session has heard, so that the new one goes on where that has left off. The
// first session of a take hears it from its beginning, so that the same take can be had again. `earliest`: of a
// session that has been taken up again, and begins another take there at the earliest.
void Worker::begin(std::optional<int64_t> earliest) {
    uint64_t repeated = 0;
    if (!awaited() && (earliest || !whole_take())) {
        const Needs& needs = session_->needs();
        const double budget = seconds(timing_.latency);
        const double spare = needs.seconds <= budget ? budget - needs.answer_seconds - kSpareSeconds : 0.0;
        const auto keep = static_cast<uint64_t>(samples(std::max(0.0, spare + exchange_.lead)));
        const uint64_t written = exchange_.input.written();
        walk(written - std::min(written, keep), false);
        const uint64_t waiting = exchange_.input.available();
        if (sent_end_ == position()) repeated = std::min<uint64_t>(sent_.size(), keep - std::min(keep, waiting));
        if (earliest) repeated = std::min<uint64_t>(repeated, std::max<int64_t>(0, position() - *earliest));
    }
    const int64_t from = position() - static_cast<int64_t>(repeated);
    exchange_.wet_from = from;
    if (earliest) session_->begin_take(from);
    if (known_transport_) session_->send_transport(transport_position_, transport_);
    for (uint32_t index = 0; index < kParameterCount; ++index)
        if (earliest || values_[index] != wishes_.values[index]) session_->send_parameter(from, index, values_[index]);
    session_->send_texts(texts(), from);
    if (stale() && !settle_) settle_ = position();
    tell_notes(from, earliest.has_value());
    briefed_ = true;
    for (uint64_t done = 0; done < repeated;) {
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(repeated - done, session_->max_block()));
        session_->send_audio(from + static_cast<int64_t>(done), &sent_[sent_.size() - repeated + done], count);
        done += count;
    }
    missing_ = exchange_.underrun_samples;
    missing_late_ = session_->late_samples();
    last_missing_ = Clock::time_point();
}

// What is held where the session begins, and what has been played since: keys stay down over whatever ends a session.
// `anew`: it has been told of others, which may have been let go while it heard nothing.
void Worker::tell_notes(int64_t from, bool anew) {
    if (!pack_.takes_notes) return;
    HeldNotes held = held_;
    auto next = played_.begin();
    for (; next != played_.end() && next->position <= from; ++next) held.take(next->midi);
    for (uint8_t channel = 0; channel < HeldNotes::kChannelsOfMidi; ++channel) {
        const std::vector<uint8_t> told = held.told(channel);
        if (const auto off = HeldNotes::all_off(channel); anew) session_->send_midi(from, off.data(), off.size());
        if (!told.empty()) session_->send_midi(from, told.data(), told.size());
    }
    for (; next != played_.end(); ++next) session_->send_midi(next->position, next->midi, next->midi_size);
}

// Where somebody waits for the output, a change that needs another session takes effect where it was made: what is due
// before comes first.
void Worker::drain() {
    session_->finish();
    while (!session_->ended() && !hopeless() && !stopping()) {
        if (exchange_.restart_index.load(std::memory_order_acquire) > exchange_.input.read_count()) return;
        connection_->run(kIdleMilliseconds, exchange_.wake_fd());
        exchange_.clear_wake();
    }
}

}  // namespace backline
