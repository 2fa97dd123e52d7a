// Numbers with units as users read and write them, whatever the host's locale.
#pragma once

#include <string>

namespace backline {

struct NumberFormat {
    double scale;  // by which the value is multiplied
    int decimals;
    const char* unit;
};

std::string number_to_text(const NumberFormat& format, double value);
// With its unit or without. False, and nothing is changed, where the text is no number.
bool number_from_text(const NumberFormat& format, const std::string& text, double& value);

std::string trimmed(const std::string& text);
std::string lower_case(std::string text);
// Without space around it, and with the signs that we write in place of those that keyboards and fonts offer for them.
std::string plain_signs(std::string text);

}  // namespace backline
