/* SPDX-License-Identifier: Apache-2.0
 * Time stamps to text and back, without the C library's time zones. */
#include "rfc3339.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

/* Days since 1970-01-01 of a date of the Gregorian calendar: years are counted from March, so that the leap day comes
 * last and months have the lengths of a fixed pattern (153 days to five). */
static int64_t days_of(int64_t year, int month, int day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(int64_t days, int *ret_year, int *ret_month, int *ret_day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    *ret_day = (int)(of_year - (153 * month + 2) / 5 + 1);
    *ret_month = (int)(month < 10 ? month + 3 : month - 9);
    *ret_year = (int)(year + era * 400 + (*ret_month <= 2));
}

static char *put(char *out, int value, int width, char after) {
    for (int i = width - 1; i >= 0; i--, value /= 10) out[i] = (char)('0' + value % 10);
    out[width] = after;
    return out + width + 1;
}

void esp_time_format(int64_t ms, char ret_text[ESP_TIME_TEXT]) {
    int64_t days = ms / DAY_MS - (ms % DAY_MS < 0);
    int rest = (int)(ms - days * DAY_MS), year, month, day;
    date_of(days, &year, &month, &day);
    char *out = put(ret_text, year, 4, '-');
    out = put(out, month, 2, '-');
    out = put(out, day, 2, 'T');
    out = put(out, rest / 3600000, 2, ':');
    out = put(out, rest / 60000 % 60, 2, ':');
    out = put(out, rest / 1000 % 60, 2, '.');
    out = put(out, rest % 1000, 3, 'Z');
    *out = '\0';
}

static bool take(const char **text, int width, char after, int lower, int upper, int *ret) {
    int value = 0;
    for (int i = 0; i < width; i++) {
        char c = *(*text)++;
        if (c < '0' || c > '9') return false;
        value = value * 10 + (c - '0');
    }
    if (after && *(*text)++ != after) return false;
    *ret = value;
    return value >= lower && value <= upper;
}

static bool take_offset(const char **text, int64_t *ret_ms) {
    char sign = *(*text)++;
    int hours, minutes;
    *ret_ms = 0;
    if (sign == 'Z' || sign == 'z') return true;
    /* a '+' in a query string arrives as a space */
    if ((sign != '+' && sign != '-' && sign != ' ') || !take(text, 2, ':', 0, 23, &hours) || !take(text, 2, 0, 0, 59, &minutes)) return false;
    *ret_ms = (hours * 60 + minutes) * INT64_C(60000) * (sign == '-' ? -1 : 1);
    return true;
}

static int take_fraction(const char **text) {
    int ms = 0, scale = 100;
    if (**text != '.') return 0;
    for ((*text)++; **text >= '0' && **text <= '9'; (*text)++, scale /= 10) ms += (**text - '0') * scale;
    return ms;
}

static bool parse_millis(const char *text, int64_t *ret_ms) {
    size_t len = strlen(text);
    if (len == 0 || len > 15 || strspn(text, "0123456789") != len) return false;
    *ret_ms = strtoll(text, NULL, 10);
    return true;
}

bool esp_time_parse(const char *text, int64_t *ret_ms) {
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day, hour, minute, second;
    int64_t offset;
    if (parse_millis(text, ret_ms)) return true;
    if (!take(&text, 4, '-', 0, 9999, &year) || !take(&text, 2, '-', 1, 12, &month) || !take(&text, 2, 0, 1, 31, &day)) return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > lengths[month - 1] + (month == 2 && leap)) return false;
    if (*text != 'T' && *text != 't' && *text != ' ') return false;
    text++;
    if (!take(&text, 2, ':', 0, 23, &hour) || !take(&text, 2, ':', 0, 59, &minute) || !take(&text, 2, 0, 0, 60, &second)) return false;
    int fraction = take_fraction(&text);
    if (!take_offset(&text, &offset) || *text) return false;
    *ret_ms = days_of(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * INT64_C(1000) + fraction - offset;
    return true;
}
