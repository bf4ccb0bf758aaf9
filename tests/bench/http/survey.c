/* SPDX-License-Identifier: Apache-2.0
 * Every filter and sort of a list (parts.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "list_query.h"
#include "lists.h"
#include "load.h"
#include "parts.h"
#include "registry/registry.h"

typedef struct worst {
    const test_daemon *daemon;
    const char *path; /* of the list */
    const esp_list *list;
    esp_db *db; /* the same rows, to ask SQLite how it would read them */
    double ms, wall_ms;
    char at[400];
    long requests, late, late_wall, scans, sorts;
} worst;

/* Whether the page would be read by an index: a scan without one, or a sort of all rows, is said and counted. */
static void explain(worst *w, const char *params) {
    char text[600], *rest = NULL;
    esp_list_query query = {.list = w->list};
    esp_buf sql = {0};
    esp_stmt *s = NULL;
    esp_error error = {0};
    snprintf(text, sizeof text, "%s", params);
    esp_code code = ESP_OK;
    for (char *p = strtok_r(text, "&", &rest); p && !code; p = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(p, '=');
        *value++ = '\0';
        code = esp_list_take(&query, p, value, &error);
    }
    if (!code) code = esp_list_settle(&query, NULL, &error);
    if (!code) code = esp_list_plan(w->db, &query, &error);
    esp_buf_puts(&sql, "EXPLAIN QUERY PLAN ");
    if (!code) esp_list_sql(&query, &sql);
    if (!code) code = esp_stmt_open(w->db, &s, &error, esp_buf_text(&sql), "");
    bool scan = false, sort = false;
    while (!code && esp_stmt_step(s, &error) == 1) {
        const char *step = esp_stmt_text(s, 3, NULL);
        bool walks = query.driver < 0 && !query.sort; /* newest first, past filters that thousands of rows pass: up to the page's end */
        scan |= strncmp(step, "SCAN ", 5) == 0 && !strstr(step, "USING") && !strchr(step, '(') && !walks; /* not a subquery's rows */
        sort |= strstr(step, "ORDER BY") && query.driver < 0;
    }
    if (code || scan || sort) printf("    %s: %s\n", params, code ? error.message : scan ? "reads the whole table" : "sorts the whole table");
    w->scans += scan;
    w->sorts += sort;
    esp_stmt_close(s);
    esp_buf_done(&sql);
}

/* Processor time of the daemon for the page; the clock's in ret_wall_ms. */
static double one(const test_daemon *daemon, const char *path, char ret_next[300], double *ret_wall_ms) {
    const char *body = NULL;
    double before = load_cpu_ms(daemon->pid);
    int status = load_get(daemon->port, path, &body, ret_wall_ms);
    double ms = load_cpu_ms(daemon->pid) - before;
    if (status != 200) printf("%s: %d %.300s\n", path, status, body);
    const char *next = strstr(body, "\"next\":\"");
    ret_next[0] = '\0';
    if (next) sscanf(next, "\"next\":\"%299[^\"]", ret_next);
    return ms;
}

/* The page, the one behind it, and another of a different size. */
static void look(worst *w, const char *query) {
    char path[1400], next[300], again[300];
    explain(w, query);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, i == 1 ? "%s?%s&limit=%d&cursor=%s" : "%s?%s&limit=%d", w->path, query, i == 2 ? 99 : 100, next);
        if (i == 1 && !*next) continue;
        double wall_ms = 0, ms = one(w->daemon, path, i == 0 ? next : again, &wall_ms);
        if (wall_ms > w->wall_ms) w->wall_ms = wall_ms;
        w->requests++;
        w->late += ms > 20;
        w->late_wall += wall_ms > 20;
        if (ms > 20) printf("    %8.1f ms  %.160s\n", ms, path);
        if (ms <= w->ms) continue;
        w->ms = ms;
        snprintf(w->at, sizeof w->at, "%.399s", path);
    }
}

/* A value of the column from the middle of the table, as it would be asked for; 0 when there is none. */
static bool sample(const worst *w, const char *field, const char *cursor, char ret[200]) {
    char path[800], key[80];
    snprintf(path, sizeof path, "%s?limit=1%s%s", w->path, *cursor ? "&" : "", cursor);
    const char *body = NULL;
    double ms = 0;
    (void)load_get(w->daemon->port, path, &body, &ms);
    snprintf(key, sizeof key, "\"%s\":", field);
    const char *at = strstr(body, key);
    bool good = at != NULL && strncmp(at + strlen(key), "null", 4) != 0 && at[strlen(key)] != '[';
    ret[0] = '\0';
    if (good) {
        at += strlen(key);
        size_t n = 0;
        bool quoted = *at == '"';
        for (at += quoted; n < 199 && *at && (quoted ? *at != '"' : !strchr(",}", *at)); at++) ret[n++] = *at;
        ret[n] = '\0';
    }
    return good;
}

/* Every operation that the column takes with this value. */
static void filters(worst *w, const esp_column *c, const char *value) {
    static const char *const ops[] = {"=", "__lt=", "__lte=", "__gt=", "__gte=", "__ne="};
    char filter[400];
    for (size_t o = 0; o < (c->type == ESP_COL_SET ? 1 : sizeof ops / sizeof *ops); o++) {
        snprintf(filter, sizeof filter, "%s%s%s", c->field, ops[o], value);
        look(w, filter);
    }
    if (c->type != ESP_COL_TEXT || strlen(value) <= 4) return;
    snprintf(filter, sizeof filter, "%s__glob=%.*s*", c->field, (int)strlen(value) - 2, value);
    look(w, filter);
}

/* Sorted both ways; filtered by the value of a row in the middle, and of the smallest by this column. */
static void column(worst *w, const esp_column *c) {
    char query[600], value[200];
    for (int down = 0; c->flags & ESP_COL_SORT && down < 2; down++) {
        snprintf(query, sizeof query, "sort=%s%s", down ? "-" : "", c->field);
        look(w, query);
    }
    snprintf(query, sizeof query, "sort=%s", c->field);
    const char *const froms[] = {"sort=-created_at&created_at__lt=1700050000000", c->flags & ESP_COL_SORT ? query : ""};
    for (int f = 0; c->flags & ESP_COL_FILTER && f < 2; f++) {
        if (sample(w, c->field, froms[f], value)) filters(w, c, value);
    }
}

void survey(const test_daemon *daemon, const char *path, const esp_list *list) {
    worst w = {.daemon = daemon, .path = path, .list = list};
    char data[100];
    esp_error error = {0};
    snprintf(data, sizeof data, "%s/data", daemon->dir);
    if (esp_registry_read_only(data, &w.db, &error)) {
        printf("%s\n", error.message);
        exit(1);
    }
    for (const esp_column *c = list->columns; c->field; c++) column(&w, c);
    esp_registry_read_release(w.db);
    printf("%-12s %ld pages, %ld over 20 ms of processor, the longest %.1f ms: %s\n             by the clock %ld over 20 ms, the longest %.1f ms; "
           "%ld read the whole table, %ld sort it\n",
           path, w.requests, w.late, w.ms, w.at, w.late_wall, w.wall_ms, w.scans, w.sorts);
    fflush(stdout);
}
