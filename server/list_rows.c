/* SPDX-License-Identifier: Apache-2.0
 * A row of a list as JSON and as CSV (RFC 4180). */
#include <math.h>
#include <string.h>

#include "list_query.h"
#include "rfc3339.h"

static void field_json(const esp_column *column, esp_stmt *stmt, int i, esp_jsonw *w) {
    char time[ESP_TIME_TEXT];
    size_t len = 0;
    if (column->type == ESP_COL_SET) return;
    if (esp_stmt_is_null(stmt, i)) {
        esp_jsonw_null(w, column->field);
        return;
    }
    switch (column->type) {
    case ESP_COL_TEXT: esp_jsonw_string(w, column->field, esp_stmt_text(stmt, i, NULL)); break;
    case ESP_COL_INTEGER: esp_jsonw_integer(w, column->field, esp_stmt_int(stmt, i)); break;
    case ESP_COL_REAL: esp_jsonw_number(w, column->field, esp_stmt_real(stmt, i)); break;
    case ESP_COL_BOOL: esp_jsonw_bool(w, column->field, esp_stmt_int(stmt, i) != 0); break;
    case ESP_COL_TIME:
        esp_time_format(esp_stmt_int(stmt, i), time);
        esp_jsonw_string(w, column->field, time);
        break;
    case ESP_COL_JSON: {
        const char *text = esp_stmt_text(stmt, i, &len);
        esp_jsonw_raw(w, column->field, text, len);
        break;
    }
    case ESP_COL_SET: break;
    }
}

void esp_list_members_json(const esp_list *list, esp_stmt *stmt, esp_jsonw *w) {
    for (int i = 0; list->columns[i].field; i++) field_json(&list->columns[i], stmt, i, w);
}

void esp_list_row_json(const esp_list *list, esp_stmt *stmt, esp_jsonw *w) {
    esp_jsonw_object(w, NULL);
    esp_list_members_json(list, stmt, w);
    esp_jsonw_object_end(w);
}

/* Quoted where RFC 4180 asks for it. A text that a spreadsheet would take for a formula gets a quote mark in front. */
static void text_csv(const char *text, size_t len, esp_buf *out) {
    const char *guard = len > 0 && strchr("=+-@\t\r", text[0]) ? "'" : "";
    bool quote = memchr(text, '"', len) || memchr(text, ',', len) || memchr(text, '\n', len) || memchr(text, '\r', len);
    if (!quote) {
        esp_buf_puts(out, guard);
        esp_buf_put(out, text, len);
        return;
    }
    esp_buf_put(out, "\"", 1);
    esp_buf_puts(out, guard);
    for (size_t i = 0; i < len; i++) esp_buf_put(out, text[i] == '"' ? "\"\"" : &text[i], text[i] == '"' ? 2 : 1);
    esp_buf_put(out, "\"", 1);
}

static void field_csv(const esp_column *column, esp_stmt *stmt, int i, esp_buf *out) {
    char text[ESP_TIME_TEXT > 32 ? ESP_TIME_TEXT : 32];
    size_t len = 0;
    if (esp_stmt_is_null(stmt, i)) return;
    switch (column->type) {
    case ESP_COL_INTEGER: esp_buf_printf(out, "%lld", (long long)esp_stmt_int(stmt, i)); break;
    case ESP_COL_BOOL: esp_buf_puts(out, esp_stmt_int(stmt, i) ? "true" : "false"); break;
    case ESP_COL_REAL:
        if (isfinite(esp_stmt_real(stmt, i))) esp_buf_put(out, text, esp_format_number(esp_stmt_real(stmt, i), text));
        break;
    case ESP_COL_TIME:
        esp_time_format(esp_stmt_int(stmt, i), text);
        esp_buf_puts(out, text);
        break;
    case ESP_COL_TEXT:
    case ESP_COL_JSON: {
        const char *value = esp_stmt_text(stmt, i, &len);
        text_csv(value, len, out);
        break;
    }
    case ESP_COL_SET: break;
    }
}

void esp_list_head_csv(const esp_list *list, esp_buf *out) {
    for (int i = 0; list->columns[i].field; i++) {
        if (list->columns[i].type == ESP_COL_SET) continue;
        if (i > 0) esp_buf_put(out, ",", 1);
        esp_buf_puts(out, list->columns[i].field);
    }
    esp_buf_puts(out, "\r\n");
}

void esp_list_row_csv(const esp_list *list, esp_stmt *stmt, esp_buf *out) {
    for (int i = 0; list->columns[i].field; i++) {
        if (list->columns[i].type == ESP_COL_SET) continue;
        if (i > 0) esp_buf_put(out, ",", 1);
        field_csv(&list->columns[i], stmt, i, out);
    }
    esp_buf_puts(out, "\r\n");
}
