// The text among the settings, and all of them at once.
#include "settings.h"

namespace backline {

Settings::Settings() {
    for (uint32_t index = 0; index < kParameterCount; ++index)
        if (!is_slot(index)) set_value(index, parameters()[index].initial);
}

bool Settings::follow_pack(uint32_t number) {
    const std::string name = packs.name(number);
    const std::lock_guard lock(mutex_);
    const uint32_t revision = packs.revision();
    if (name == followed_ && revision == followed_revision_) return false;
    followed_ = name;
    followed_revision_ = revision;
    const net::Pack pack = packs.description(name);
    const bool renamed = slots.bind(pack);
    prompts.follow(pack, texts.written());
    return renamed;
}

NamedTexts Settings::texts_for(const net::Pack& pack, uint32_t slot) const {
    NamedTexts wanted = texts.written();
    if (const net::PackText* const text = prompted_text(pack)) wanted[text->name] = prompts.words(slot);
    return wanted;
}

State Settings::state() const {
    State state;
    for (uint32_t index = 0; index < kParameterCount; ++index)
        if (is_kept(index)) state.values[index] = value(index);
    state.named_values = slots.named();
    state.texts = texts.written();
    state.bank = prompts.bank();
    state.packs = packs.state();
    state.endpoint = endpoint();
    return state;
}

void Settings::set_state(const State& state) {
    {
        const std::lock_guard lock(mutex_);
        endpoint_ = state.endpoint;
        followed_.clear();  // the bank is another one
    }
    packs.set_state(state.packs);
    for (uint32_t index = 0; index < kParameterCount; ++index)
        if (is_kept(index)) set_value(index, state.values[index]);
    if (state.values[kPack] >= state.packs.names.size()) set_value(kPack, parameters()[kPack].initial);  // names none
    slots.set_named(state.named_values);
    texts.set_written(state.texts);
    prompts.set_bank(state.bank);
    ++version_;
}

std::string Settings::endpoint() const {
    const std::lock_guard lock(mutex_);
    return endpoint_;
}

void Settings::set_endpoint(const std::string& endpoint) {
    {
        const std::lock_guard lock(mutex_);
        endpoint_ = endpoint;
    }
    ++version_;
}

}  // namespace backline
