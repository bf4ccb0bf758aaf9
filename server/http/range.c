/* SPDX-License-Identifier: Apache-2.0
 * Files as replies, whole or one range of their bytes (RFC 9110, 14), so that a download that broke can go on.
 *
 * A Range of several ranges, of another unit or not well formed is ignored, as is one whose If-Range names another file than there is. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http/call.h"

static bool parse_number(const char **at, uint64_t *ret) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = isdigit((unsigned char)**at) ? strtoull(*at, &end, 10) : 0;
    if (!end || errno) return false;
    *at = end;
    *ret = value;
    return true;
}

esp_range_kind esp_range_parse(const char *text, uint64_t size, uint64_t *ret_first, uint64_t *ret_len) {
    uint64_t first = 0, last = UINT64_MAX;
    if (strncasecmp(text, "bytes=", 6) != 0) return ESP_RANGE_NONE;
    const char *at = text + 6;
    bool from_end = *at == '-';
    if (!from_end && !parse_number(&at, &first)) return ESP_RANGE_NONE;
    if (*at++ != '-') return ESP_RANGE_NONE;
    if ((from_end || *at) && !parse_number(&at, &last)) return ESP_RANGE_NONE;
    if (*at || (!from_end && last < first)) return ESP_RANGE_NONE;
    if (from_end) { /* the last so many bytes */
        first = last < size ? size - last : 0;
        if (last == 0) return ESP_RANGE_BEYOND;
        last = UINT64_MAX;
    }
    if (first >= size) return ESP_RANGE_BEYOND;
    *ret_first = first;
    *ret_len = (last < size ? last + 1 : size) - first;
    return ESP_RANGE_ONE;
}

static esp_range_kind asked_for(const esp_call *call, const char *etag, uint64_t size, uint64_t *ret_first, uint64_t *ret_len) {
    const char *range = esp_call_header(call, "Range"), *only_of = esp_call_header(call, "If-Range");
    if (!range || (only_of && strcmp(only_of, etag) != 0)) return ESP_RANGE_NONE;
    return esp_range_parse(range, size, ret_first, ret_len);
}

static void reply_part(esp_call *call, const char *content_type, int fd, uint64_t first, uint64_t len, int status) {
    struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(len, fd, first);
    if (!response) close(fd);
    call->sent = len;
    esp_call_header_add(call, "Accept-Ranges", "bytes");
    esp_call_set_response(call, status, content_type, response);
    esp_call_finish(call);
}

void esp_call_reply_file(esp_call *call, const char *content_type, const char *etag, const char *path) {
    esp_error error = {0};
    struct stat st;
    char text[80];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        esp_fail_errno(&error, ESP_IO, "open a stored file");
        if (fd >= 0) close(fd);
        esp_call_reply_error(call, &error);
        return;
    }
    uint64_t size = (uint64_t)st.st_size, first = 0, len = size;
    switch (asked_for(call, etag, size, &first, &len)) {
    case ESP_RANGE_NONE: reply_part(call, content_type, fd, 0, size, 200); break;
    case ESP_RANGE_ONE:
        snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)first, (unsigned long long)(first + len - 1),
                 (unsigned long long)size);
        esp_call_header_add(call, "Content-Range", text);
        reply_part(call, content_type, fd, first, len, 206);
        break;
    case ESP_RANGE_BEYOND:
        close(fd);
        snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)size);
        esp_call_header_add(call, "Content-Range", text);
        esp_fail_at(&error, ESP_RANGE, "Range", "there are %llu bytes", (unsigned long long)size);
        esp_call_reply_error(call, &error);
        break;
    }
}
