/* SPDX-License-Identifier: Apache-2.0
 * The known, linear frame around a learned part: y(t+1) = A Y + B U + G f(C Y + D U). */
#include <string.h>

#include "net/model.h"

static const char *const frame_fields[] = {"a", "b", "c", "d", "g", NULL};

/* The member `key` as a matrix of rows x cols; rows or cols 0 = as given, up to the cap, returned in them. */
static esp_code parse_matrix(const esp_reader *frame, const char *key, size_t *rows, size_t *cols, esp_arena *arena, double **ret,
                             esp_error *reterr) {
    esp_reader member;
    esp_code code = esp_read_required(frame, key, &member, reterr);
    size_t n_rows = 0, n_cols = 0;
    if (code == ESP_OK) code = esp_read_array(&member, *rows ? *rows : 1, *rows ? *rows : ESP_MAX_WIDTH, &n_rows, reterr);
    esp_reader first = esp_read_element(&member, 0);
    if (code == ESP_OK) code = esp_read_array(&first, *cols ? *cols : 1, *cols ? *cols : ESP_MAX_WIDTH, &n_cols, reterr);
    if (code != ESP_OK) return code;
    double *values = ESP_NEW(arena, double, n_rows *n_cols);
    if (!values) return esp_fail(reterr, ESP_NOMEM, "a frame matrix of %zu x %zu", n_rows, n_cols);
    code = esp_read_matrix(&member, n_rows, n_cols, values, reterr);
    if (code != ESP_OK) return code;
    *rows = n_rows;
    *cols = n_cols;
    *ret = values;
    return ESP_OK;
}

/* Without inputs B and D have no columns: absent, or rows that are empty. */
static esp_code check_empty(const esp_reader *frame, const char *key, size_t rows, esp_error *reterr) {
    esp_reader member = esp_read_member(frame, key);
    double nothing;
    return member.value ? esp_read_matrix(&member, rows, 0, &nothing, reterr) : ESP_OK;
}

static esp_code parse_linear(const esp_reader *reader, size_t ny, size_t n_yh, size_t n_uh, esp_arena *arena, esp_frame *ret_frame, int *ret_f_in,
                             int *ret_f_out, esp_error *reterr) {
    esp_frame frame = {.kind = ESP_FRAME_LINEAR};
    size_t f_in = 0, f_out = 0;
    esp_code code = esp_read_object(reader, frame_fields, reterr);
    if (code == ESP_OK) code = parse_matrix(reader, "a", &ny, &n_yh, arena, &frame.a, reterr);
    if (code == ESP_OK) code = parse_matrix(reader, "c", &f_in, &n_yh, arena, &frame.c, reterr);
    if (code == ESP_OK) code = parse_matrix(reader, "g", &ny, &f_out, arena, &frame.g, reterr);
    if (n_uh > 0) {
        if (code == ESP_OK) code = parse_matrix(reader, "b", &ny, &n_uh, arena, &frame.b, reterr);
        if (code == ESP_OK) code = parse_matrix(reader, "d", &f_in, &n_uh, arena, &frame.d, reterr);
    } else {
        if (code == ESP_OK) code = check_empty(reader, "b", ny, reterr);
        if (code == ESP_OK) code = check_empty(reader, "d", f_in, reterr);
    }
    if (code != ESP_OK) return code;
    *ret_frame = frame;
    *ret_f_in = (int)f_in;
    *ret_f_out = (int)f_out;
    return ESP_OK;
}

esp_code esp_frame_parse(const esp_reader *reader, int ny, int nu, int history, esp_arena *arena, esp_frame *ret_frame, int *ret_f_in, int *ret_f_out,
                         esp_error *reterr) {
    size_t n_yh = (size_t)history * (size_t)ny, n_uh = (size_t)history * (size_t)nu;
    if (esp_reader_kind(reader) == ESP_JSON_OBJECT)
        return parse_linear(reader, (size_t)ny, n_yh, n_uh, arena, ret_frame, ret_f_in, ret_f_out, reterr);
    esp_frame frame = {.kind = ESP_FRAME_NONE};
    if (esp_reader_kind(reader) != ESP_JSON_NULL) {
        const char *name = "";
        if (esp_reader_kind(reader) != ESP_JSON_STRING || esp_read_string(reader, 64, &name, NULL) != ESP_OK || strcmp(name, "residual") != 0)
            return esp_refuse(reader, reterr, "must be \"residual\" or an object with a, b, c, d and g");
        frame.kind = ESP_FRAME_RESIDUAL;
    }
    *ret_frame = frame;
    *ret_f_in = (int)(n_yh + n_uh);
    *ret_f_out = ny;
    return ESP_OK;
}

/* ret (m) += P (m x n_yh) Y + Q (m x n_uh) U, x = [Y, U]. */
static void add_product(int m, int n_yh, int n_uh, const double *p, const double *q, const double *x, double *ret) {
    for (int i = 0; i < m; i++) {
        double sum = ret[i];
        for (int j = 0; j < n_yh; j++) sum += p[(size_t)i * (size_t)n_yh + (size_t)j] * x[j];
        for (int j = 0; j < n_uh; j++) sum += q[(size_t)i * (size_t)n_uh + (size_t)j] * x[n_yh + j];
        ret[i] = sum;
    }
}

void esp_frame_input(const esp_frame *frame, int ny, int nu, int history, int nf_in, const double *x, double *ret_v) {
    if (frame->kind != ESP_FRAME_LINEAR) {
        memcpy(ret_v, x, (size_t)nf_in * sizeof *ret_v);
        return;
    }
    memset(ret_v, 0, (size_t)nf_in * sizeof *ret_v);
    add_product(nf_in, history * ny, history * nu, frame->c, frame->d, x, ret_v);
}

void esp_frame_known(const esp_frame *frame, int ny, int nu, int history, const double *x, double *ret_y) {
    if (frame->kind == ESP_FRAME_RESIDUAL) {
        memcpy(ret_y, x + (size_t)(history - 1) * (size_t)ny, (size_t)ny * sizeof *ret_y);
        return;
    }
    memset(ret_y, 0, (size_t)ny * sizeof *ret_y);
    if (frame->kind == ESP_FRAME_LINEAR) add_product(ny, history * ny, history * nu, frame->a, frame->b, x, ret_y);
}
