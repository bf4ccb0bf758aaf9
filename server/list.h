/* SPDX-License-Identifier: Apache-2.0
 * Every list of API.md from one description of its columns: filters, sort, keyset cursor, and the rows as JSON, CSV or
 * NDJSON, streamed from one read snapshot.
 *
 * A list is a SELECT over a table or join; a column says how a field is computed, and whether it may be filtered and
 * sorted by. Query parameters: limit, cursor, sort=field or -field, format, field=, field__lt|lte|gt|gte|ne|glob=;
 * anything else is refused with the parameter's name and the valid ones. */
#ifndef ESP_SERVER_LIST_H
#define ESP_SERVER_LIST_H

#include "http/http.h"
#include "registry/registry.h"

typedef enum esp_column_type { ESP_COL_TEXT, ESP_COL_INTEGER, ESP_COL_REAL, ESP_COL_BOOL, ESP_COL_TIME, ESP_COL_JSON, ESP_COL_SET } esp_column_type;
/* AGE: rises with the order of creation, but for a clock that was set back. */
enum { ESP_COL_FILTER = 1, ESP_COL_SORT = 2, ESP_COL_AGE = 4 };

typedef struct esp_column {
    const char *field; /* name in the reply and in query parameters */
    const char *sql; /* expression */
    /* TIME: milliseconds in SQL, RFC 3339 in the reply. SET: not shown, filtered by only; `sql` is "x IN (SELECT ... WHERE text",
     * which the comparison and a bracket end. */
    esp_column_type type;
    unsigned flags;
} esp_column;

typedef struct esp_choice {
    const char *field; /* TEXT */
    const char *const *values; /* all there are, ends with NULL: another one in =, __ne is refused */
} esp_choice;

typedef struct esp_list {
    const char *from; /* "model m LEFT JOIN ..." */
    const char *key; /* unique, in the order of creation: "m.rowid" */
    const char *sort; /* default, e.g. "relu"; NULL: newest first, by the key */
    const esp_column *columns; /* ends with field NULL */
    const esp_choice *choices; /* ends with field NULL; NULL: none */
    bool indexed; /* `from` is one table, and every filter and sort has an index (schema/db/0003_lists.sql) */
} esp_list;

/* Answers the call. `where`, may be NULL, is a fixed extra condition that ends with its one text parameter: "c.model = ?". */
void esp_list_reply(struct esp_server *server, esp_call *call, const esp_list *list, const char *where, const char *where_value);

/* Answers a GET of one thing that takes no query: the row as an object, or 404. */
void esp_list_reply_one(struct esp_server *server, esp_call *call, const esp_list *list, const char *where, const char *where_value);

/* One row's members, without braces, for a GET of one thing; NOT_FOUND when there is none. */
ESP_MUST_CHECK esp_code esp_list_one(esp_db *db, const esp_list *list, const char *where, const char *where_value, esp_jsonw *w, esp_error *reterr);
/* The rows as the elements of an array that the caller has begun, in the default order, all of them. */
ESP_MUST_CHECK esp_code esp_list_all(esp_db *db, const esp_list *list, const char *where, const char *where_value, esp_jsonw *w, esp_error *reterr);

#endif
