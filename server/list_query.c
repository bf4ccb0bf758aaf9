/* SPDX-License-Identifier: Apache-2.0
 * Query parameters of a list to a checked value, and that to SQL. Only text written here or in a column's description
 * gets into a statement; what the client sends is bound. */
#include "list_query.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rfc3339.h"

static const struct {
    const char *suffix, *sql;
} ops[] = {
    [ESP_OP_EQ] = {"", " IS "},     [ESP_OP_LT] = {"lt", " < "},      [ESP_OP_LTE] = {"lte", " <= "},     [ESP_OP_GT] = {"gt", " > "},
    [ESP_OP_GTE] = {"gte", " >= "}, [ESP_OP_NE] = {"ne", " IS NOT "}, [ESP_OP_GLOB] = {"glob", " GLOB "},
};

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

static esp_code refuse_param(const char *name, esp_error *reterr, const char *message) {
    char pointer[100];
    snprintf(pointer, sizeof pointer, "?%.90s", name);
    return esp_fail_at(reterr, ESP_INVALID, pointer, "%s", message);
}

static esp_code refuse_unknown(const esp_list *list, const char *name, unsigned flag, esp_error *reterr) {
    char known[260];
    int len = snprintf(known, sizeof known, "%s",
                       flag == ESP_COL_FILTER ? "limit, cursor, sort, format, and with __lt, __lte, __gt, __gte, __ne, __glob: " : "");
    for (const esp_column *c = list->columns; c->field && (size_t)len < sizeof known; c++) {
        if (c->flags & flag) len += snprintf(known + len, sizeof known - (size_t)len, "%s ", c->field);
    }
    char message[320];
    snprintf(message, sizeof message, "%s; known: %s", flag == ESP_COL_FILTER ? "unknown query parameter" : "cannot sort by that", known);
    return refuse_param(name, reterr, message);
}

static const esp_column *find_column(const esp_list *list, const char *name, size_t len, unsigned flag) {
    for (const esp_column *c = list->columns; c->field; c++) {
        if ((c->flags & flag) && strlen(c->field) == len && memcmp(c->field, name, len) == 0) return c;
    }
    return NULL;
}

static bool parse_integer(const char *text, int64_t *ret) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno || isspace((unsigned char)*text)) return false;
    *ret = value;
    return true;
}

static bool parse_real(const char *text, double *ret) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || isspace((unsigned char)*text)) return false;
    *ret = value;
    return true;
}

static bool parse_bool(const char *text, int64_t *ret) {
    *ret = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
    return *ret || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

static esp_code parse_value(const esp_column *column, const char *name, const char *text, esp_list_value *ret, esp_error *reterr) {
    esp_list_value value = {.type = 'i'};
    switch (column->type) {
    case ESP_COL_INTEGER:
        if (!parse_integer(text, &value.integer)) return refuse_param(name, reterr, "an integer is expected");
        break;
    case ESP_COL_BOOL:
        if (!parse_bool(text, &value.integer)) return refuse_param(name, reterr, "true or false is expected");
        break;
    case ESP_COL_TIME:
        if (!esp_time_parse(text, &value.integer))
            return refuse_param(name, reterr, "a time is expected, like 2026-01-31T12:00:00Z, or milliseconds since 1970");
        break;
    case ESP_COL_REAL:
        value.type = 'r';
        if (!parse_real(text, &value.real)) return refuse_param(name, reterr, "a finite number is expected");
        break;
    case ESP_COL_TEXT:
    case ESP_COL_JSON:
    case ESP_COL_SET:
        value.type = 't';
        value.text = text;
        break;
    }
    *ret = value;
    return ESP_OK;
}

/* A text that the column never holds: a slip of the pen, not an empty list. */
static esp_code check_choice(const esp_list *list, const esp_column *column, const char *name, const char *text, esp_error *reterr) {
    const esp_choice *choice = list->choices;
    while (choice && choice->field && strcmp(choice->field, column->field) != 0) choice++;
    if (!choice || !choice->field) return ESP_OK;
    char message[200];
    int len = snprintf(message, sizeof message, "must be one of");
    for (int i = 0; choice->values[i]; i++) {
        if (strcmp(choice->values[i], text) == 0) return ESP_OK;
        if ((size_t)len < sizeof message) len += snprintf(message + len, sizeof message - (size_t)len, "%s %s", i ? "," : "", choice->values[i]);
    }
    return refuse_param(name, reterr, message);
}

static esp_code take_filter(esp_list_query *query, const char *name, const char *value, esp_error *reterr) {
    const char *mark = strstr(name, "__");
    size_t len = mark ? (size_t)(mark - name) : strlen(name);
    const char *suffix = mark ? mark + 2 : "";
    int op = ESP_OP_EQ;
    while (op <= ESP_OP_GLOB && strcmp(ops[op].suffix, suffix) != 0) op++;
    const esp_column *column = find_column(query->list, name, len, ESP_COL_FILTER);
    if (!column || op > ESP_OP_GLOB || (mark && !*suffix)) return refuse_unknown(query->list, name, ESP_COL_FILTER, reterr);
    if (column->type == ESP_COL_SET && op != ESP_OP_EQ && op != ESP_OP_NE && op != ESP_OP_GLOB)
        return refuse_param(name, reterr, "it is in the set or it is not: only =, __ne and __glob");
    if (op == ESP_OP_GLOB && column->type != ESP_COL_TEXT && column->type != ESP_COL_SET)
        return refuse_param(name, reterr, "only texts can be matched with __glob");
    if (query->n_filters == ESP_LIST_FILTERS) return refuse_param(name, reterr, "too many filters");
    esp_list_filter *filter = &query->filters[query->n_filters];
    filter->column = column;
    filter->op = (esp_list_op)op;
    esp_code code = parse_value(column, name, value, &filter->value, reterr);
    if (!code && (op == ESP_OP_EQ || op == ESP_OP_NE)) code = check_choice(query->list, column, name, value, reterr);
    if (!code) query->n_filters++;
    return code;
}

static esp_code take_sort(esp_list_query *query, const char *value, esp_error *reterr) {
    bool descending = *value == '-';
    const esp_column *column = find_column(query->list, value + descending, strlen(value + descending), ESP_COL_SORT);
    if (!column) return refuse_unknown(query->list, "sort", ESP_COL_SORT, reterr);
    query->sort = column;
    query->descending = descending;
    return ESP_OK;
}

static esp_code take_format(esp_list_query *query, const char *value, esp_error *reterr) {
    static const char *const names[] = {[ESP_LIST_JSON] = "json", [ESP_LIST_CSV] = "csv", [ESP_LIST_NDJSON] = "ndjson"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) != 0) continue;
        query->format = (esp_list_format)i;
        return ESP_OK;
    }
    return refuse_param("format", reterr, "json, csv or ndjson is expected");
}

esp_code esp_list_take(esp_list_query *query, const char *name, const char *value, esp_error *reterr) {
    if (strcmp(name, "sort") == 0) return take_sort(query, value, reterr);
    if (strcmp(name, "format") == 0) return take_format(query, value, reterr);
    if (strcmp(name, "limit") != 0) return take_filter(query, name, value, reterr);
    if (!parse_integer(value, &query->limit) || query->limit < 1 || query->limit > ESP_LIST_LIMIT_MAX) {
        query->limit = 0;
        return refuse_param("limit", reterr, "1 to 1000 is expected");
    }
    return ESP_OK;
}

/* ---- cursors: base64url of fingerprint (16 hex digits), type of the sort value, key length (2 digits), key, value ----- */

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void base64_put(const unsigned char *bytes, size_t len, esp_buf *out) {
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        unsigned group = (unsigned)bytes[i] << 16 | (n > 1 ? (unsigned)bytes[i + 1] << 8 : 0) | (n > 2 ? bytes[i + 2] : 0u);
        char text[4];
        for (int k = 0; k < 4; k++) text[k] = base64[group >> (18 - 6 * k) & 63];
        esp_buf_put(out, text, n + 1);
    }
}

/* false for what base64_put does not write; ret has room for 3/4 of the length. */
static bool base64_take(const char *text, char *ret, size_t *ret_len) {
    unsigned group = 0;
    int bits = 0;
    *ret_len = 0;
    for (; *text; text++) {
        const char *digit = strchr(base64, *text);
        if (!digit) return false;
        group = group << 6 | (unsigned)(digit - base64);
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        ret[(*ret_len)++] = (char)(group >> bits & 255);
    }
    return true;
}

static void mix(uint64_t *hash, const char *text) {
    for (; text && *text; text++) *hash = (*hash ^ (unsigned char)*text) * 1099511628211u;
    *hash = (*hash ^ 0xff) * 1099511628211u; /* "ab","c" is not "a","bc" */
}

static uint64_t fingerprint(const esp_list_query *query) {
    uint64_t hash = 14695981039346656037u;
    char number[40];
    mix(&hash, query->list->from);
    mix(&hash, query->where_value);
    mix(&hash, query->sort ? query->sort->field : "");
    mix(&hash, query->descending ? "-" : "+");
    for (int i = 0; i < query->n_filters; i++) {
        const esp_list_filter *f = &query->filters[i];
        snprintf(number, sizeof number, "%lld %.17g", (long long)f->value.integer, f->value.real);
        mix(&hash, f->column->field);
        mix(&hash, ops[f->op].suffix);
        mix(&hash, number);
        mix(&hash, f->value.text);
    }
    return hash;
}

void esp_list_cursor(const esp_list_query *query, esp_stmt *stmt, esp_buf *out) {
    esp_buf text = {0};
    int at = esp_list_width(query->list);
    size_t key_len = 0, value_len = 0;
    char types[] = {[ESP_VALUE_NULL] = 'n', [ESP_VALUE_INT] = 'i', [ESP_VALUE_REAL] = 'r', [ESP_VALUE_TEXT] = 't'};
    esp_value_type type = esp_stmt_type(stmt, at);
    const char *key = esp_stmt_text(stmt, at + 1, &key_len);
    esp_buf_printf(&text, "%016llx%c%02zu", (unsigned long long)query->fingerprint, types[type], key_len);
    esp_buf_put(&text, key, key_len);
    if (type == ESP_VALUE_REAL) {
        esp_buf_printf(&text, "%.17g", esp_stmt_real(stmt, at));
    } else {
        const char *value = esp_stmt_text(stmt, at, &value_len);
        esp_buf_put(&text, value, value_len < ESP_CURSOR_VALUE_MAX ? value_len : ESP_CURSOR_VALUE_MAX);
    }
    if (text.failed) out->failed = true;
    base64_put((const unsigned char *)esp_buf_text(&text), text.len, out);
    esp_buf_done(&text);
}

static bool cursor_value(esp_list_query *query, char type) {
    esp_list_value *after = &query->after;
    after->type = type;
    after->text = query->after_text;
    char *end = NULL;
    switch (type) {
    case 'n': return query->after_text[0] == '\0';
    case 't': return true;
    case 'i': return parse_integer(query->after_text, &after->integer);
    case 'r': after->real = strtod(query->after_text, &end); return end && *end == '\0' && !isnan(after->real); /* a bound may be infinite */
    default: return false;
    }
}

static bool parse_cursor(esp_list_query *query, const char *cursor) {
    char text[800], hash[17];
    size_t len;
    if (strlen(cursor) > 1000 || !base64_take(cursor, text, &len) || len < 19 || memchr(text, '\0', len)) return false;
    text[len] = '\0';
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)query->fingerprint);
    if (memcmp(text, hash, 16) != 0 || !isdigit((unsigned char)text[17]) || !isdigit((unsigned char)text[18])) return false;
    size_t key_len = (size_t)(text[17] - '0') * 10 + (size_t)(text[18] - '0');
    if (key_len >= ESP_ID_MAX || 19 + key_len > len || len - 19 - key_len > ESP_CURSOR_VALUE_MAX) return false;
    memcpy(query->after_key, text + 19, key_len);
    query->after_key[key_len] = '\0';
    strcpy(query->after_text, text + 19 + key_len);
    return cursor_value(query, text[16]);
}

/* Newest first, and a range of ages asked for: sorted by that age instead of by the key, the index begins where the range does.
 * By the key, a page of old rows would be found behind all newer ones. */
static const esp_column *by_age(const esp_list_query *query) {
    for (int i = 0; query->list->indexed && i < query->n_filters; i++) {
        const esp_list_filter *f = &query->filters[i];
        if (f->column->flags & ESP_COL_AGE && f->op >= ESP_OP_LT && f->op <= ESP_OP_GTE) return f->column;
    }
    return NULL;
}

esp_code esp_list_settle(esp_list_query *query, const char *cursor, esp_error *reterr) {
    query->driver = -1;
    if (!query->sort && query->list->sort) {
        esp_code code = take_sort(query, query->list->sort, reterr);
        assert(!code);
        if (code) return code;
    } else if (!query->sort) {
        query->descending = true;
        query->sort = by_age(query);
    }
    query->fingerprint = fingerprint(query);
    query->resumes = cursor != NULL;
    if (cursor && !parse_cursor(query, cursor)) {
        return refuse_param("cursor", reterr, "not a cursor of this list with these filters and this sort; start again without it");
    }
    return ESP_OK;
}

/* ---- SQL ------------------------------------------------------------------------------------------------------------ */

int esp_list_width(const esp_list *list) {
    int n = 0;
    while (list->columns[n].field) n++;
    return n;
}

/* The parameters are numbered: where, filters three apart, the cursor's value and key, the limit. */
static int filter_at(const esp_list_query *query, int i) {
    return (query->where ? 2 : 1) + 3 * i;
}

static int after_at(const esp_list_query *query) {
    return filter_at(query, query->n_filters);
}

static void filter_sql(const esp_list_query *query, int i, esp_buf *out) {
    const esp_list_filter *filter = &query->filters[i];
    const char *sql = filter->column->sql;
    bool own_order = query->driver < 0 && filter->column == query->sort; /* the index of the sort is narrowed by it */
    const char *hide = query->list->indexed && !own_order ? "+" : "";
    int at = filter_at(query, i);
    if (query->driver == i) {
        esp_list_driver_sql(query->list, filter, at, out);
    } else if (filter->column->type == ESP_COL_SET) {
        esp_buf_printf(out, "%s%s%s %s ?%d)", filter->op == ESP_OP_NE ? "NOT " : "", hide, sql, filter->op == ESP_OP_GLOB ? "GLOB" : "=", at);
    } else {
        esp_buf_printf(out, "%s(%s)%s?%d", hide, sql, ops[filter->op].sql, at);
    }
}

/* A filter drives and its index has another order: SQLite is kept from reading by the order after all. */
static bool sorts(const esp_list_query *query) {
    if (query->driver < 0) return false;
    const esp_list_filter *driver = &query->filters[query->driver];
    return query->sort || driver->op != ESP_OP_EQ || driver->column->type == ESP_COL_SET;
}

/* The run in which the sort's column is NULL, of the two that follow each other: NULL sorts first going up and last going down. */
static bool null_run(const esp_list_query *query, int run) {
    return query->resumes && query->sort && (run == 1 ? query->descending : query->after.type == 'n');
}

/* Rows after (value, key) in the order of the sort; an index gives only one of the two runs at a time. */
static void run_sql(const esp_list_query *query, int run, esp_buf *out) {
    const char *sort = query->sort ? query->sort->sql : NULL, *key = query->list->key, *past = query->descending ? "<" : ">";
    const char *hide = sorts(query) ? "+" : "";
    int value = after_at(query);
    if (!sort) {
        esp_buf_printf(out, "%s%s %s ?%d", hide, key, past, value + 1);
    } else if (run == 1) {
        esp_buf_printf(out, query->descending ? "%s%s IS NULL" : "%s%s IS NOT NULL", hide, sort);
    } else if (query->after.type == 'n') {
        esp_buf_printf(out, "%s%s IS NULL AND %s%s %s ?%d", hide, sort, hide, key, past, value + 1);
    } else { /* the first part is for the index */
        esp_buf_printf(out, "%s%s %s= ?%d AND (+%s %s ?%d OR +%s %s ?%d)", hide, sort, past, value, sort, past, value, key, past, value + 1);
    }
}

static void where_sql(const esp_list_query *query, int run, esp_buf *out) {
    const char *glue = " WHERE ";
    if (query->where) {
        esp_buf_printf(out, "%s(%s1)", glue, query->where);
        glue = " AND ";
    }
    for (int i = 0; i < query->n_filters; i++) {
        esp_buf_printf(out, "%s(", glue);
        filter_sql(query, i, out);
        esp_buf_puts(out, ")");
        glue = " AND ";
    }
    if (!query->resumes) return;
    esp_buf_puts(out, glue);
    run_sql(query, run, out);
}

static void order_sql(const esp_list_query *query, int run, esp_buf *out) {
    const char *direction = query->descending ? "DESC" : "ASC", *hide = sorts(query) ? "+" : "";
    esp_buf_puts(out, " ORDER BY ");
    if (query->sort && !null_run(query, run)) esp_buf_printf(out, "%s%s %s, ", hide, query->sort->sql, direction);
    esp_buf_printf(out, "%s%s %s LIMIT ?%d", hide, query->list->key, direction, after_at(query) + 2);
}

/* What must be sorted is sorted by its keys alone; only the page's rows are made whole. */
static void select_sql(const esp_list_query *query, int run, esp_buf *out) {
    const esp_list *list = query->list;
    bool keys_first = sorts(query);
    esp_buf_puts(out, "SELECT ");
    for (const esp_column *c = list->columns; c->field; c++) esp_buf_printf(out, "%s, ", c->type == ESP_COL_SET ? "NULL" : c->sql);
    esp_buf_printf(out, "%s, %s FROM %s", query->sort ? query->sort->sql : list->key, list->key, list->from);
    if (keys_first) esp_buf_printf(out, " WHERE %s IN (SELECT %s FROM %s", list->key, list->key, list->from);
    where_sql(query, run, out);
    order_sql(query, run, out);
    if (!keys_first) return;
    esp_buf_puts(out, ")");
    order_sql(query, run, out);
}

void esp_list_sql(const esp_list_query *query, esp_buf *out) {
    bool two = query->resumes && query->sort && (query->after.type == 'n') != query->descending;
    if (!two) {
        select_sql(query, 0, out);
        return;
    }
    for (int run = 0; run < 2; run++) {
        esp_buf_puts(out, run ? ") UNION ALL SELECT * FROM (" : "SELECT * FROM (");
        select_sql(query, run, out);
    }
    esp_buf_printf(out, ") LIMIT ?%d", after_at(query) + 2);
}

static void bind_value(esp_stmt *stmt, int index, const esp_list_value *value) {
    switch (value->type) {
    case 'i': esp_stmt_bind_int(stmt, index, value->integer); break;
    case 'r': esp_stmt_bind_real(stmt, index, value->real); break;
    default: esp_stmt_bind_text(stmt, index, value->type == 'n' ? NULL : value->text);
    }
}

void esp_list_bind_filter(const esp_list_filter *filter, esp_stmt *stmt, int at, bool range) {
    bind_value(stmt, at, &filter->value);
    if (!range) return;
    esp_stmt_bind_text(stmt, at + 1, filter->prefix);
    esp_stmt_bind_text(stmt, at + 2, filter->prefix_end);
}

void esp_list_bind(const esp_list_query *query, esp_stmt *stmt, int64_t limit) {
    int64_t key = 0;
    int at = after_at(query);
    if (query->where) esp_stmt_bind_text(stmt, 1, query->where_value);
    for (int i = 0; i < query->n_filters; i++) {
        const esp_list_filter *f = &query->filters[i];
        bool range = query->driver == i && f->op == ESP_OP_GLOB && f->column->type != ESP_COL_SET;
        esp_list_bind_filter(f, stmt, filter_at(query, i), range);
    }
    if (query->resumes) {
        if (query->sort && query->after.type != 'n') bind_value(stmt, at, &query->after);
        if (parse_integer(query->after_key, &key))
            esp_stmt_bind_int(stmt, at + 1, key);
        else
            esp_stmt_bind_text(stmt, at + 1, query->after_key);
    }
    esp_stmt_bind_int(stmt, at + 2, limit);
}
