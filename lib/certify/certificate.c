/* SPDX-License-Identifier: Apache-2.0
 * Names of strengths and norms, and the box: read from JSON, identified by its canonical form. */
#include "certify/certificate.h"

const char *const esp_strength_names[] = {"proved", "solver", "statistical", "empirical", NULL};
const char *const esp_norm_names[] = {"l2", "linf", NULL};

static void box_side(esp_buf *text, const double *values, int n) {
    esp_buf_puts(text, "[");
    for (int k = 0; k < n; k++) {
        char number[32];
        size_t len = esp_format_number(values[k] + 0.0, number); /* -0 becomes 0: the same set, the same hash */
        if (k > 0) esp_buf_puts(text, ",");
        esp_buf_put(text, number, len);
    }
    esp_buf_puts(text, "]");
}

void esp_box_hash(const esp_box *box, char ret_hex[ESP_HASH_HEX]) {
    esp_buf text = {0};
    esp_buf_puts(&text, "{\"lower\":");
    box_side(&text, box->lower, box->n);
    esp_buf_puts(&text, ",\"upper\":");
    box_side(&text, box->upper, box->n);
    esp_buf_puts(&text, "}");
    esp_hash_bytes(text.data, text.failed ? 0 : text.len, ret_hex);
    esp_buf_done(&text);
}

esp_code esp_box_parse(const esp_reader *reader, int n, esp_arena *arena, esp_box *ret_box, esp_error *reterr) {
    static const char *const fields[] = {"lower", "upper", NULL};
    esp_reader lower, upper;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (!code) code = esp_read_required(reader, "lower", &lower, reterr);
    if (!code) code = esp_read_required(reader, "upper", &upper, reterr);
    if (code) return code;
    esp_box box = {n, ESP_NEW(arena, double, n), ESP_NEW(arena, double, n)};
    if (!box.lower || !box.upper) return esp_fail(reterr, ESP_NOMEM, "no memory for a box of %d inputs", n);
    code = esp_read_vector(&lower, (size_t)n, box.lower, reterr);
    if (!code) code = esp_read_vector(&upper, (size_t)n, box.upper, reterr);
    if (code) return code;
    for (int k = 0; k < n; k++) {
        esp_reader at = esp_read_element(&upper, (size_t)k);
        if (box.lower[k] > box.upper[k]) return esp_refuse(&at, reterr, "is below the lower end");
    }
    *ret_box = box;
    return ESP_OK;
}
