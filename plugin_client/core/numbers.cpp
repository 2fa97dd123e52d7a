// Numbers with units as users read and write them, whatever the host's locale.
#include "numbers.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace backline {
std::string number_to_text(const NumberFormat& format, double value) {
    char digits[400];  // whatever a pack's range may hold
    // Not printf: its decimal point is the locale's, which the host may change.
    const double scaled = value * format.scale + 0.0;
    const auto end = std::to_chars(digits, digits + sizeof digits, scaled, std::chars_format::fixed, format.decimals);
    std::string text(digits, end.ptr);
    if (text[0] == '-' && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);  // no "-0.0"
    return *format.unit ? text + " " + format.unit : text;
}

bool number_from_text(const NumberFormat& format, const std::string& given, double& value) {
    std::string text = lower_case(plain_signs(given));
    if (text.empty()) return false;
    const size_t comma = text.find(',');
    const bool decimal_comma = comma != std::string::npos && text.find('.') == std::string::npos;
    if (decimal_comma) text[comma] = '.';
    const bool plus = text[0] == '+' && text.size() > 1 && text[1] != '-';
    double number = 0.0;
    const auto [end, error] = std::from_chars(text.c_str() + plus, text.c_str() + text.size(), number);
    if (error != std::errc() || !std::isfinite(number)) return false;
    const std::string unit = trimmed(end), own = lower_case(format.unit);
    // "2,700 ms" is 2.7 s to some and 2.7 ms to others.
    const bool milliseconds = own == "s" && unit == "ms" && !decimal_comma;
    if (!milliseconds && !unit.empty() && unit != own && !(own == "s" && (unit == "sec" || unit == "seconds")))
        return false;
    return value = number / (milliseconds ? 1000.0 : format.scale), true;
}

std::string trimmed(const std::string& text) {
    const size_t first = text.find_first_not_of(" \t\r\n"), last = text.find_last_not_of(" \t\r\n");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

std::string lower_case(std::string text) {
    // Not the locale's: only ASCII has two cases here.
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return text;
}

std::string plain_signs(std::string text) {
    constexpr std::pair<std::string_view, std::string_view> kSigns[] = {
        {"\u266f", "#"}, {"\u266d", "b"}, {"\u2212", "-"}, {"\u221e", "inf"}, {"\u00d7", "x"}, {"\u00a0", " "},
        {"\u202f", " "}};
    for (const auto& [sign, plain] : kSigns)
        for (size_t at; (at = text.find(sign)) != std::string::npos;) text.replace(at, sign.size(), plain);
    return trimmed(text);
}

}  // namespace backline
