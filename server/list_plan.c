/* SPDX-License-Identifier: Apache-2.0
 * Which index a page is read by.
 *
 * SQLite knows nothing of how many rows a filter leaves, and a guess that is wrong costs a sort of a million rows or a scan of
 * them. So each filter is first counted, through its index and up to a few thousand. One that leaves few enough drives: its rows
 * are read and sorted. When all leave many, the index of the sort drives and the filters are looked at on the way, where the
 * next hit is never far; of equality filters in the default order, the index has the order already. Those that do not drive are
 * hidden from SQLite behind a unary plus. */
#include <string.h>

#include "list_query.h"

/* As many as are sorted in a few milliseconds: alone and newest first, the index itself has all that the order needs. */
enum { FEW = 5000, FEW_ALONE = 15000 };

static int64_t few(const esp_list_query *query) {
    bool ranged = query->n_filters == 1 && query->filters[0].op != ESP_OP_NE && query->filters[0].column->type != ESP_COL_SET;
    return ranged && !query->sort ? FEW_ALONE : FEW;
}

/* The texts that a pattern can match lie in [prefix, end); false when it begins with a wildcard. */
static bool glob_range(const char *pattern, char ret_prefix[ESP_GLOB_PREFIX], char ret_end[ESP_GLOB_PREFIX]) {
    size_t n = strcspn(pattern, "*?[");
    if (n == 0) return false;
    if (n >= ESP_GLOB_PREFIX) n = ESP_GLOB_PREFIX - 1;
    memcpy(ret_prefix, pattern, n);
    ret_prefix[n] = '\0';
    memcpy(ret_end, ret_prefix, n + 1);
    if ((unsigned char)ret_end[n - 1] == 0xff) return false;
    ret_end[n - 1]++;
    return true;
}

/* The rows that differ, by an index: what is less, what is more, and NULL. `what` is selected. */
static void others_sql(const esp_list *list, const char *what, const char *sql, int at, esp_buf *out) {
    esp_buf_printf(out, "SELECT %s FROM %s WHERE %s < ?%d UNION ALL SELECT %s FROM %s WHERE %s > ?%d UNION ALL SELECT %s FROM %s WHERE %s IS NULL",
                   what, list->from, sql, at, what, list->from, sql, at, what, list->from, sql);
}

/* A pattern that is a prefix and a star. */
static bool is_prefix(const esp_list_filter *f) {
    size_t n = strlen(f->prefix);
    return f->value.text && strncmp(f->value.text, f->prefix, n) == 0 && strcmp(f->value.text + n, "*") == 0;
}

/* The condition of a filter that drives; its parameter is number `at`, and for a range of texts the next two. */
void esp_list_driver_sql(const esp_list *list, const esp_list_filter *f, int at, esp_buf *out) {
    static const char *const signs[] = {[ESP_OP_EQ] = "IS", [ESP_OP_LT] = "<", [ESP_OP_LTE] = "<=", [ESP_OP_GT] = ">", [ESP_OP_GTE] = ">="};
    const char *sql = f->column->sql;
    if (f->column->type == ESP_COL_SET) {
        esp_buf_printf(out, "%s %s ?%d)", sql, f->op == ESP_OP_GLOB ? "GLOB" : "=", at);
    } else if (f->op == ESP_OP_GLOB) {
        esp_buf_printf(out, "%s >= ?%d AND %s < ?%d", sql, at + 1, sql, at + 2);
        if (!is_prefix(f)) esp_buf_printf(out, " AND +%s GLOB ?%d", sql, at); /* else the range is all of it, and the index enough */
    } else if (f->op == ESP_OP_NE) {
        esp_buf_printf(out, "%s IN (", list->key);
        others_sql(list, list->key, sql, at, out);
        esp_buf_puts(out, ")");
    } else {
        esp_buf_printf(out, "%s %s ?%d", sql, signs[f->op], at);
    }
}

/* How many rows the filter leaves, one more than few for more; -1: no index tells. */
static esp_code count(esp_db *db, const esp_list_query *query, int i, int64_t *ret, esp_error *reterr) {
    const esp_list_filter *f = &query->filters[i];
    bool set = f->column->type == ESP_COL_SET;
    esp_buf sql = {0};
    esp_stmt *s = NULL;
    *ret = -1;
    if ((set && f->op == ESP_OP_NE) || (!set && f->op == ESP_OP_GLOB && !*f->prefix)) return ESP_OK;
    esp_buf_puts(&sql, "SELECT count(*) FROM (");
    if (f->op == ESP_OP_NE) {
        others_sql(query->list, "1", f->column->sql, 1, &sql);
    } else {
        esp_buf_printf(&sql, "SELECT 1 FROM %s WHERE ", query->list->from);
        esp_list_driver_sql(query->list, f, 1, &sql);
    }
    esp_buf_printf(&sql, " LIMIT %lld)", (long long)few(query) + 1);
    esp_code code = sql.failed ? esp_fail(reterr, ESP_NOMEM, "no memory for a list") : esp_stmt_open(db, &s, reterr, esp_buf_text(&sql), "");
    if (!code) esp_list_bind_filter(f, s, 1, !set && f->op == ESP_OP_GLOB);
    int step = code ? code : esp_stmt_step(s, reterr);
    if (step == 1) *ret = esp_stmt_int(s, 0);
    esp_stmt_close(s);
    esp_buf_done(&sql);
    return step < 0 ? (esp_code)step : ESP_OK;
}

esp_code esp_list_plan(esp_db *db, esp_list_query *query, esp_error *reterr) {
    int64_t least = few(query) + 1;
    query->driver = -1;
    if (!query->list->indexed) return ESP_OK;
    for (int i = 0; i < query->n_filters; i++) {
        int64_t n = -1;
        esp_list_filter *f = &query->filters[i];
        if (f->op != ESP_OP_GLOB || f->column->type == ESP_COL_SET || !glob_range(f->value.text, f->prefix, f->prefix_end)) f->prefix[0] = '\0';
        esp_code code = count(db, query, i, &n, reterr);
        if (code) return code;
        if (n < 0 || n >= least) continue;
        least = n;
        query->driver = i;
    }
    for (int i = 0; query->driver < 0 && !query->sort && i < query->n_filters; i++) {
        const esp_list_filter *f = &query->filters[i];
        if (f->op == ESP_OP_EQ && f->column->type != ESP_COL_SET) query->driver = i;
    }
    return ESP_OK;
}
