/* SPDX-License-Identifier: Apache-2.0
 * Requests about one model that came in one frame: each is read, answered or refused by itself.
 *
 * Answers go out in the order of the requests, and together. A frame that takes long is given up after TURN_NS: what is not
 * answered by then the daemon gives out again, behind whatever else waits for a worker. One request at least is answered. */
#include "worker/worker.h"

#include <string.h>

#define TURN_NS (2 * ESP_NS_PER_MS)
enum { SEND_AT = 1 << 16 };

/* The JSON head, which names the model. */
static esp_code read_about(worker *w, esp_cursor *in, worker_about *ret, esp_error *reterr) {
    size_t len = esp_cursor_u32(in);
    const char *text = esp_cursor_bytes(in, len);
    esp_json *json = NULL;
    esp_code code = text ? esp_json_parse(text, len, &json, reterr) : esp_fail(reterr, ESP_CORRUPT, "a frame of requests is cut short");
    if (code) return code;
    esp_reader root = esp_reader_root(json), model = esp_read_member(&root, "model"), candidate = esp_read_member(&root, "candidate");
    code = worker_model_get(w, &model, &ret->model, reterr);
    /* The second get may push the first model out of the cache only when the cache has one slot; it has 16. */
    if (!code && candidate.value) code = worker_model_get(w, &candidate, &ret->candidate, reterr);
    esp_json_free(json);
    return code;
}

static esp_code answer_one(worker *w, worker_answer *answer, const worker_about *about, const char *text, size_t len, esp_buf *out,
                           esp_error *reterr) {
    esp_json *json = NULL;
    esp_code code = esp_json_parse(text, len, &json, reterr);
    esp_reader root = esp_reader_root(json);
    if (!code) code = answer(w, about, &root, out, reterr);
    if (!code && out->failed) code = esp_fail(reterr, ESP_NOMEM, "no memory for the answer");
    if (!code && out->len > ESP_FRAME_MAX) code = esp_fail(reterr, ESP_TOO_LARGE, "the answer is larger than a frame");
    esp_json_free(json);
    return code;
}

static esp_code answer_all(worker *w, worker_answer *answer, const worker_about *about, esp_cursor *in, esp_buf *out, esp_error *reterr) {
    int64_t until = esp_clock_now_ns() + TURN_NS;
    do {
        esp_error error = {0};
        size_t len = esp_cursor_u32(in);
        const char *text = esp_cursor_bytes(in, len);
        if (!text) return esp_fail(reterr, ESP_CORRUPT, "a frame of requests is cut short");
        if (worker_cancelled(w)) return esp_fail(reterr, ESP_CANCELLED, "cancelled");
        esp_buf_clear(out);
        if (answer_one(w, answer, about, text, len, out, &error))
            worker_put_error(w, ESP_FRAME_REFUSED, &error);
        else
            worker_put(w, ESP_FRAME_ANSWER, out);
        if (w->out.len >= SEND_AT) worker_flush(w);
    } while (in->pos < in->len && esp_clock_now_ns() < until);
    return ESP_OK;
}

esp_code worker_asks(worker *w, worker_answer *answer, const char *payload, size_t len, esp_error *reterr) {
    char empty[] = "{}";
    const esp_buf nothing = {.data = empty, .len = 2};
    worker_about about = {0};
    esp_buf copy = {0}, out = {0}; /* a look for a CANCEL moves the bytes that came */
    esp_buf_put(&copy, payload, len);
    esp_cursor in = {(const unsigned char *)copy.data, copy.len, 0, false};
    esp_code code = copy.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for %zu bytes of requests", len) : read_about(w, &in, &about, reterr);
    if (!code && in.pos < in.len) code = answer_all(w, answer, &about, &in, &out, reterr);
    if (!code) worker_send(w, ESP_FRAME_DONE, &nothing);
    esp_buf_done(&copy);
    esp_buf_done(&out);
    return code;
}
