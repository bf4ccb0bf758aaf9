/* SPDX-License-Identifier: Apache-2.0
 * Frames in bytes: the form that schema/formats/worker-frames.md gives. Linked by the daemon and by the worker. */
#include "pool/frame.h"

#include <assert.h>
#include <string.h>

#include "base/json.h"

static const char magic[4] = {'E', 'S', 'F', '1'};

void esp_frame_put(esp_buf *out, esp_frame_type type, uint64_t task, const void *payload, uint32_t length) {
    assert(length <= ESP_FRAME_MAX);
    const unsigned char kind[4] = {(unsigned char)(type & 0xff), (unsigned char)((unsigned)type >> 8), 0, 0};
    esp_buf_put(out, magic, sizeof magic);
    esp_buf_put(out, kind, sizeof kind);
    esp_buf_put_u64(out, task);
    esp_buf_put_u32(out, length);
    if (length) esp_buf_put(out, payload, length);
}

int esp_frame_next(const esp_buf *in, size_t *pos, esp_frame_header *ret_header, const char **ret_payload, esp_error *reterr) {
    assert(*pos <= in->len);
    size_t left = in->len - *pos;
    if (left < ESP_FRAME_HEADER) return 0;
    const unsigned char *bytes = (const unsigned char *)in->data + *pos;
    if (memcmp(bytes, magic, sizeof magic) != 0) return esp_fail(reterr, ESP_CORRUPT, "a frame does not start with ESF1");
    if (bytes[6] || bytes[7]) return esp_fail(reterr, ESP_CORRUPT, "a frame's reserved bytes are not zero");
    esp_cursor cursor = {bytes, ESP_FRAME_HEADER, 8, false};
    uint64_t task = esp_cursor_u64(&cursor);
    uint32_t length = esp_cursor_u32(&cursor);
    if (length > ESP_FRAME_MAX) return esp_fail(reterr, ESP_CORRUPT, "a frame of %u bytes is over the cap of %u", length, ESP_FRAME_MAX);
    if (left - ESP_FRAME_HEADER < length) return 0;
    *ret_header = (esp_frame_header){(uint16_t)(bytes[4] | bytes[5] << 8), task, length};
    *ret_payload = in->data + *pos + ESP_FRAME_HEADER;
    *pos += ESP_FRAME_HEADER + length;
    return 1;
}

void esp_frame_read_error(const char *payload, size_t len, esp_error *ret_error) {
    esp_json *json = NULL;
    const char *code = "INTERNAL", *pointer = "", *message = "the worker gave no reason";
    if (!esp_json_parse(payload, len, &json, NULL)) {
        esp_reader root = esp_reader_root(json);
        esp_reader member = esp_read_member(&root, "code");
        esp_code ok = esp_read_string(&member, 64, &code, NULL);
        member = esp_read_member(&root, "pointer");
        if (!ok) ok = esp_read_string(&member, sizeof ret_error->pointer, &pointer, NULL);
        member = esp_read_member(&root, "message");
        if (!ok) ok = esp_read_string(&member, sizeof ret_error->message, &message, NULL);
        if (ok) message = "the worker's error could not be read";
    }
    esp_error_set(ret_error, esp_code_from_name(code), "worker", pointer, "%s", message);
    esp_json_free(json);
}
