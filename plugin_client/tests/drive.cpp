// An instance of the core under the control of lines on standard input; each is answered with one line.
//
//     set NAME VALUE               a parameter by its number, in its own unit
//     endpoint TEXT
//     reload                       takes up the state that it has saved, as with its project
//     activate RATE FRAMES         answers the latency in samples
//     offline 0|1
//     bounce 0|1                   whether each call says of itself that it bounces
//     roll -1|0|1                  no transport with the calls, one that stands, one that plays
//     song QUARTERS                where the song is when a run begins; 0 at first
//     loop START END               the region of the song that repeats, in quarters; of no length, as at first: none
//     sing 0|1                     silence as input, or noise, from its beginning; noise at first
//     sidechain 0|1                none, or other noise; none at first
//     pack NAME                    chooses it, of the packs that are known
//     write NAME TEXT              a text of the pack's
//     text NAME                    where it is in force since (or "beginning", or "nowhere"), and how it reads there
//     slots                        how many parameters the pack names; then for each its present value as users read it
//     note AT                      a note begins at this sample of the next run
//     sweep NAME LOW HIGH EVERY    while running, a parameter by steps from one value to the other and again, each so
//                                  many samples; 0: no more
//     run SAMPLES BLOCK SPEED FILE plays noise in blocks of BLOCK samples, or random ones up to -BLOCK, at SPEED times
//                                  real time (0: as fast as it goes); appends input and outputs of each sample to FILE,
//                                  2 + 12 float32, and the sidechain's 2; answers the longest call of process in
//                                  seconds
//     await STATUS SECONDS BLOCK   plays silence in real time until the status is that one; answers the samples, or -1
//     reset
//     status                       status, sessions, underrun and late samples, needed latency, lost MIDI, message
//     brief                        the message as hosts show it that have little room
//     deactivate                   answers the seconds that it took
//     provoke                      allocates where a guard of the real-time rule must notice
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "plugin.h"

// Of realtime_guard.cpp, where a test has preloaded it: what a thread must not do between 1 and 0 ends the program.
extern "C" __attribute__((weak)) void backline_realtime(int on);

namespace {

using namespace backline;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

class Driver {
  public:
    std::string answer(const std::string& line) {
        std::istringstream words(line);
        std::ostringstream out;
        std::string word;
        words >> word;
        if (word == "set") {
            uint32_t index;
            double value;
            words >> index >> value;
            plugin_.set_parameter(index, value);
        } else if (word == "endpoint") {
            words >> word;
            plugin_.set_endpoint(word);
        } else if (word == "reload") {
            const std::vector<uint8_t> state = plugin_.save_state();
            if (!plugin_.load_state(state.data(), state.size())) return "refused";
        } else if (word == "activate") {
            uint32_t frames;
            words >> rate_ >> frames;
            if (!plugin_.activate(rate_, frames)) return "refused";
            out << plugin_.latency_samples(rate_);
        } else if (word == "offline") {
            words >> offline_;
            plugin_.set_offline(offline_);
        } else if (word == "bounce") {
            words >> bounce_;
        } else if (word == "roll") {
            words >> roll_;
        } else if (word == "song") {
            words >> song_begin_;
        } else if (word == "loop") {
            words >> loop_start_ >> loop_end_;
        } else if (word == "sing") {
            words >> sing_;
            random_.seed(1);
        } else if (word == "sidechain") {
            words >> sidechain_;
            beside_.seed(2);
        } else if (word == "pack") {
            double number = 0.0;
            words >> word;
            plugin_.show_packs();
            if (!plugin_.parameter_value(kPack, word, number)) return "unknown";
            plugin_.set_parameter(kPack, number);
        } else if (word == "write") {
            words >> word;
            std::getline(words >> std::ws, text_);
            return plugin_.write_text(word, text_) ? "" : "refused";
        } else if (word == "text") {
            words >> word;
            for (const WrittenText& text : plugin_.texts())
                if (text.name == word) return in_force(text);
            return "unknown";
        } else if (word == "slots") {
            std::string shown;
            uint32_t count = 0;
            for (uint32_t index = kFirstSlot; is_slot(index); ++index) {
                const Face face = plugin_.face(index);
                if (face.hidden) continue;
                ++count;
                shown += "|" + face.name + "=" + plugin_.parameter_text(index, plugin_.parameter(index));
            }
            out << count << shown;
        } else if (word == "note") {
            words >> note_;
        } else if (word == "sweep") {
            words >> swept_ >> sweep_low_ >> sweep_high_ >> sweep_every_;
        } else if (word == "run") {
            size_t samples;
            int block;
            double speed;
            words >> samples >> block >> speed >> word;
            out << run(samples, block, speed, word);
        } else if (word == "await") {
            uint32_t status, block;
            double seconds;
            words >> status >> seconds >> block;
            out << await(static_cast<Status>(status), seconds, block);
        } else if (word == "reset") {
            plugin_.reset();
        } else if (word == "status") {
            const Meters meters = plugin_.meters();
            out << static_cast<uint32_t>(plugin_.status()) << ' ' << meters.sessions << ' ' << meters.underrun_samples
                << ' ' << meters.late_samples << ' ' << meters.needed_latency_seconds << ' ' << meters.lost_midi << ' '
                << plugin_.message();
        } else if (word == "brief") {
            out << plugin_.brief_message();
        } else if (word == "deactivate") {
            const auto begin = Clock::now();
            plugin_.deactivate();
            out << seconds_since(begin);
        } else if (word == "provoke") {
            guard(true);
            delete new std::string(line + line + line);
            guard(false);
        } else {
            return "unknown";
        }
        return out.str();
    }

  private:
    double run(size_t samples, int block, double speed, const std::string& path) {
        std::ofstream file(path, std::ios::binary | std::ios::app);
        std::uniform_real_distribution<float> noise(-1.0f, 1.0f);
        std::vector<float> input[kChannels], sidechain[kChannels], outputs[kOutputs][kChannels];
        const auto begin = Clock::now();
        double longest = 0.0;
        for (size_t done = 0; done < samples;) {
            const uint32_t most = static_cast<uint32_t>(std::min<size_t>(std::abs(block), samples - done));
            const uint32_t frames = block > 0 ? most : std::uniform_int_distribution<uint32_t>(0, most)(random_);
            Block call;
            call.frames = frames;
            call.offline = bounce_;
            Transport transport;
            transport.playing = roll_ > 0;
            transport.looping = loop_end_ > loop_start_;
            transport.loop_start = loop_start_;
            transport.loop_end = loop_end_;
            transport.song_position = song_begin_ + static_cast<double>(done) / rate_ * transport.tempo / 60;
            if (transport.looping && song_begin_ < loop_end_ && transport.song_position >= loop_end_)
                transport.song_position =
                    loop_start_ + std::fmod(transport.song_position - loop_end_, loop_end_ - loop_start_);
            transport.bar_start = std::floor(transport.song_position / 4) * 4;
            if (roll_ >= 0) call.transport = &transport;
            Event events[2];
            call.events = events;
            if (sweep_every_ > 0 && done / sweep_every_ != (done + frames) / sweep_every_)
                events[call.event_count++] = sweep(done);
            if (note_ >= done && note_ < done + frames) events[call.event_count++] = note(note_ - done);
            for (uint32_t channel = 0; channel < kChannels; ++channel) {
                input[channel].resize(frames);
                call.main_input[channel] = input[channel].data();
                sidechain[channel].assign(frames, 0.0f);
                if (sidechain_) call.sidechain[channel] = sidechain[channel].data();
                for (uint32_t output = 0; output < kOutputs; ++output) {
                    outputs[output][channel].assign(frames, 0.0f);
                    call.outputs[output][channel] = outputs[output][channel].data();
                }
            }
            for (uint32_t i = 0; i < frames; ++i)  // sample by sample: the same noise in blocks of any size
                for (auto& channel : input) channel[i] = sing_ ? noise(random_) : 0.0f;
            for (uint32_t i = 0; sidechain_ && i < frames; ++i)
                for (auto& channel : sidechain) channel[i] = noise(beside_);
            const auto called = Clock::now();
            guard(!offline_ && !bounce_ && speed == 1.0);
            plugin_.process(call);
            guard(false);
            longest = std::max(longest, seconds_since(called));
            for (uint32_t i = 0; i < frames; ++i) {
                for (const auto& channel : input) write(file, channel[i]);
                for (const auto& output : outputs)
                    for (const auto& channel : output) write(file, channel[i]);
                for (const auto& channel : sidechain) write(file, channel[i]);
            }
            done += frames;
            if (speed > 0.0) {
                const std::chrono::duration<double> lived(static_cast<double>(done) / rate_ / speed);
                std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(lived));
            }
        }
        note_ = kNoNote;
        return longest;
    }

    int64_t await(Status status, double seconds, uint32_t block) {
        std::vector<float> silence(block), ignored(block);
        Block call;
        call.frames = block;
        call.main_input[0] = call.main_input[1] = silence.data();
        call.outputs[0][0] = call.outputs[0][1] = ignored.data();
        const auto begin = Clock::now();
        for (int64_t done = 0; seconds_since(begin) < seconds; done += block) {
            if (plugin_.status() == status) return done;
            plugin_.process(call);
            std::this_thread::sleep_until(begin + std::chrono::duration_cast<Clock::duration>(
                                                      std::chrono::duration<double>((done + block) / rate_)));
        }
        return -1;
    }

    Event sweep(size_t done) const {
        constexpr size_t kSteps = 16;
        Event event;
        event.parameter = swept_;
        const double share = sweep_every_ > 0 ? static_cast<double>(done / sweep_every_ % kSteps) / (kSteps - 1) : 0.0;
        event.value = sweep_low_ + share * (sweep_high_ - sweep_low_);
        return event;
    }

    static Event note(size_t frame) {
        Event event;
        event.kind = Event::Kind::midi;
        event.frame = static_cast<uint32_t>(frame);
        event.midi_size = 3;
        event.midi[0] = 0x90, event.midi[1] = 60, event.midi[2] = 100;
        return event;
    }

    static std::string in_force(const WrittenText& text) {
        if (!text.in_force) return "nowhere";
        const std::optional<int64_t> since = text.in_force->since;
        return (since ? std::to_string(*since) : "beginning") + " " + text.in_force->text;
    }

    static void guard(bool on) {
        if (backline_realtime) backline_realtime(on);
    }

    static void write(std::ofstream& file, float sample) {
        file.write(reinterpret_cast<const char*>(&sample), sizeof sample);
    }

    Plugin plugin_;
    double rate_ = 0.0;
    bool offline_ = false, bounce_ = false, sing_ = true, sidechain_ = false;
    int roll_ = -1;
    double song_begin_ = 0.0, loop_start_ = 0.0, loop_end_ = 0.0;  // quarter notes
    uint32_t swept_ = 0;
    double sweep_low_ = 0.0, sweep_high_ = 0.0;
    size_t sweep_every_ = 0;
    static constexpr size_t kNoNote = SIZE_MAX;
    size_t note_ = kNoNote;
    std::string text_;
    std::mt19937 random_{1}, beside_{2};
};

}  // namespace

int main() {
    Driver driver;
    std::string line;
    while (std::getline(std::cin, line)) std::cout << driver.answer(line) << std::endl;
}
