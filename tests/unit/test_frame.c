/* SPDX-License-Identifier: Apache-2.0
 * pool/frame: bytes as the format says, whole or not yet, and what is refused. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pool/frame.h"

/* schema/formats/worker-frames.md, "An example", byte for byte. */
static const unsigned char cancel_7[] = {'E', 'S', 'F', '1', 5, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, '{', '}'};

static esp_buf frame_of(esp_frame_type type, uint64_t task, const char *payload) {
    esp_buf out = {0};
    esp_frame_put(&out, type, task, payload, (uint32_t)strlen(payload));
    ck_assert(!out.failed);
    return out;
}

START_TEST(frame_put__writes_the_documented_bytes) {
    esp_buf out = frame_of(ESP_FRAME_CANCEL, 7, "{}");
    ck_assert_uint_eq(out.len, sizeof cancel_7);
    ck_assert_mem_eq(out.data, cancel_7, sizeof cancel_7);
    esp_buf_done(&out);
}
END_TEST

START_TEST(frame_next__gives_back_what_was_put) {
    esp_buf out = frame_of(ESP_FRAME_PLAN, UINT64_C(0x0123456789abcdef), "{\"a\":1}");
    esp_frame_put(&out, ESP_FRAME_PING, 0, NULL, 0);
    esp_frame_header header;
    const char *payload = NULL;
    size_t pos = 0;
    ck_assert_int_eq(esp_frame_next(&out, &pos, &header, &payload, NULL), 1);
    ck_assert_uint_eq(header.type, ESP_FRAME_PLAN);
    ck_assert(header.task == UINT64_C(0x0123456789abcdef));
    ck_assert_uint_eq(header.length, 7);
    ck_assert_mem_eq(payload, "{\"a\":1}", 7);
    ck_assert_int_eq(esp_frame_next(&out, &pos, &header, &payload, NULL), 1);
    ck_assert_uint_eq(header.type, ESP_FRAME_PING);
    ck_assert_uint_eq(header.length, 0);
    ck_assert_uint_eq(pos, out.len);
    ck_assert_int_eq(esp_frame_next(&out, &pos, &header, &payload, NULL), 0);
    esp_buf_done(&out);
}
END_TEST

START_TEST(frame_next__waits_for_every_missing_byte) {
    esp_buf whole = frame_of(ESP_FRAME_BOUND, 3, "{\"lower_bound\":0.5}");
    for (size_t n = 0; n < whole.len; n++) {
        /* An exact copy, so that a read past the end is seen by the sanitisers. */
        esp_buf part = {0};
        esp_buf_put(&part, whole.data, n);
        esp_frame_header header = {0};
        const char *payload = NULL;
        size_t pos = 0;
        ck_assert_int_eq(esp_frame_next(&part, &pos, &header, &payload, NULL), 0);
        ck_assert_uint_eq(pos, 0);
        esp_buf_done(&part);
    }
    esp_buf_done(&whole);
}
END_TEST

static void expect_corrupt(size_t at, unsigned char byte) {
    unsigned char bytes[sizeof cancel_7];
    memcpy(bytes, cancel_7, sizeof bytes);
    bytes[at] = byte;
    esp_buf in = {0};
    esp_buf_put(&in, bytes, sizeof bytes);
    esp_frame_header header;
    const char *payload = NULL;
    esp_error error = {0};
    size_t pos = 0;
    ck_assert_int_eq(esp_frame_next(&in, &pos, &header, &payload, &error), ESP_CORRUPT);
    ck_assert_int_eq(error.code, ESP_CORRUPT);
    ck_assert_uint_eq(pos, 0);
    esp_buf_done(&in);
}

START_TEST(frame_next__refuses_what_is_not_a_frame) {
    for (size_t i = 0; i < 4; i++) expect_corrupt(i, 'x'); /* the magic */
    expect_corrupt(6, 1); /* the reserved bytes */
    expect_corrupt(7, 1);
    expect_corrupt(19, 0x40); /* 1 GiB of payload */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("frame");
    TCase *tc = tcase_create("frame");
    tcase_add_test(tc, frame_put__writes_the_documented_bytes);
    tcase_add_test(tc, frame_next__gives_back_what_was_put);
    tcase_add_test(tc, frame_next__waits_for_every_missing_byte);
    tcase_add_test(tc, frame_next__refuses_what_is_not_a_frame);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
