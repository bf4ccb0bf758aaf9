/* SPDX-License-Identifier: Apache-2.0
 * A list request, checked: the middle of list.c, apart so that it can be tested without a daemon. */
#ifndef ESP_SERVER_LIST_QUERY_H
#define ESP_SERVER_LIST_QUERY_H

#include "list.h"
#include "registry/query.h"

enum {
    ESP_LIST_FILTERS = 16,
    ESP_LIST_LIMIT = 100,
    ESP_LIST_LIMIT_MAX = 1000,
    ESP_LIST_COLUMNS = 32,
    ESP_CURSOR_VALUE_MAX = 512,
    ESP_GLOB_PREFIX = 128
};

typedef enum esp_list_format { ESP_LIST_JSON, ESP_LIST_CSV, ESP_LIST_NDJSON } esp_list_format;
typedef enum esp_list_op { ESP_OP_EQ, ESP_OP_LT, ESP_OP_LTE, ESP_OP_GT, ESP_OP_GTE, ESP_OP_NE, ESP_OP_GLOB } esp_list_op;

/* A value to bind: the type letter is 'n' NULL, 'i', 'r' or 't'. */
typedef struct esp_list_value {
    char type;
    int64_t integer;
    double real;
    const char *text; /* borrowed */
} esp_list_value;

typedef struct esp_list_filter {
    const esp_column *column;
    esp_list_op op;
    esp_list_value value;
    char prefix[ESP_GLOB_PREFIX], prefix_end[ESP_GLOB_PREFIX]; /* of a pattern: what it matches lies between; "" unknown */
} esp_list_filter;

typedef struct esp_list_query {
    const esp_list *list;
    const char *where, *where_value;
    esp_list_format format;
    int64_t limit; /* 0: no limit was asked for */
    const esp_column *sort; /* NULL: by the key */
    bool descending;
    int n_filters;
    esp_list_filter filters[ESP_LIST_FILTERS];
    bool resumes; /* after the row with this sort value and key */
    esp_list_value after;
    char after_text[ESP_CURSOR_VALUE_MAX + 1], after_key[ESP_ID_MAX];
    int driver; /* the filter that the rows are read by, -1: none; set by esp_list_plan */
    uint64_t fingerprint; /* of everything that a cursor must agree with */
} esp_list_query;

/* One query parameter (any of them but `format`, which is taken too). Errors: INVALID naming "?parameter". */
ESP_MUST_CHECK esp_code esp_list_take(esp_list_query *query, const char *name, const char *value, esp_error *reterr);
/* After the last parameter: the default sort, and the cursor's check. `cursor` may be NULL. */
ESP_MUST_CHECK esp_code esp_list_settle(esp_list_query *query, const char *cursor, esp_error *reterr);
/* list_plan.c: chooses the driver of an indexed list by counting what each filter leaves; without it none drives. */
ESP_MUST_CHECK esp_code esp_list_plan(esp_db *db, esp_list_query *query, esp_error *reterr);
void esp_list_driver_sql(const esp_list *list, const esp_list_filter *filter, int at, esp_buf *out);
/* Binds the filter's value at `at`, and behind it the range of its pattern. */
void esp_list_bind_filter(const esp_list_filter *filter, esp_stmt *stmt, int at, bool range);
void esp_list_sql(const esp_list_query *query, esp_buf *out);
/* Binds every parameter of esp_list_sql; limit -1 for all rows. */
void esp_list_bind(const esp_list_query *query, esp_stmt *stmt, int64_t limit);
/* Column of the sort value and of the key in a row: behind the list's columns. */
int esp_list_width(const esp_list *list);
/* The cursor that goes on after the statement's present row. */
void esp_list_cursor(const esp_list_query *query, esp_stmt *stmt, esp_buf *out);

/* Members only, without the braces. */
void esp_list_members_json(const esp_list *list, esp_stmt *stmt, esp_jsonw *w);
void esp_list_row_json(const esp_list *list, esp_stmt *stmt, esp_jsonw *w);
void esp_list_head_csv(const esp_list *list, esp_buf *out);
void esp_list_row_csv(const esp_list *list, esp_stmt *stmt, esp_buf *out);

#endif
