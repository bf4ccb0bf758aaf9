/* SPDX-License-Identifier: Apache-2.0
 * /v1/datasets: upload, list, one, its data.
 *
 * An upload goes to a temporary file as it comes, through the running hash and the push parser; a bad line ends it and
 * leaves nothing. Only a body that was good to its end becomes a blob, and only then a row. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "create.h"
#include "data/dataset.h"
#include "list.h"
#include "server.h"

static const esp_column columns[] = {
    {"id", "d.id", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
    {"name", "d.name", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
    {"version", "d.version", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"sha256", "d.sha256", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
    {"format", "d.format", ESP_COL_TEXT, ESP_COL_FILTER | ESP_COL_SORT},
    {"trajectories", "d.trajectories", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"transitions", "d.transitions", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"ny", "d.ny", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"nu", "d.nu", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"bytes", "d.bytes", ESP_COL_INTEGER, ESP_COL_FILTER | ESP_COL_SORT},
    {"created_at", "d.created_ms", ESP_COL_TIME, ESP_COL_FILTER | ESP_COL_SORT},
    {NULL, NULL, ESP_COL_TEXT, 0},
};
static const char *const format_names[] = {[ESP_DATA_NDJSON] = "ndjson", [ESP_DATA_CSV] = "csv", NULL};
static const esp_choice choices[] = {{"format", format_names}, {NULL, NULL}};
static const esp_list list = {"dataset d", "d.rowid", NULL, columns, choices, false};

static const char *const format_types[] = {[ESP_DATA_NDJSON] = "application/x-ndjson", [ESP_DATA_CSV] = "text/csv"};

/* ---- upload --------------------------------------------------------------------------------------------------------- */

typedef struct upload {
    int fd;
    char temp[4096]; /* "" once the blob is in place */
    esp_hash *hash;
    esp_ingest *ingest;
    esp_data_format format;
    uint64_t bytes, max;
    char name[ESP_NAME_MAX + 1];
} upload;

static void upload_end(void *user) {
    upload *u = user;
    if (!u) return;
    if (u->fd >= 0) close(u->fd);
    if (u->temp[0]) (void)unlink(u->temp);
    esp_hash_free(u->hash);
    esp_ingest_free(u->ingest);
    free(u);
}

static esp_code parse_format(const char *type, esp_data_format *ret_format, esp_error *reterr) {
    size_t len = type ? strcspn(type, "; \t") : 0;
    for (int i = 0; type && i < 2; i++) {
        if (strlen(format_types[i]) != len || strncasecmp(type, format_types[i], len) != 0) continue;
        *ret_format = (esp_data_format)i;
        return ESP_OK;
    }
    return esp_fail(reterr, ESP_MEDIA_TYPE, "datasets are application/x-ndjson or text/csv, not %.60s", type ? type : "nothing");
}

static esp_code upload_check(upload *u, const esp_server *server, const esp_call *call, esp_error *reterr) {
    static const char *const known[] = {"name", NULL};
    esp_code code = esp_call_query_check(call, known, reterr);
    if (code) return code;
    const char *name = esp_call_query(call, "name"), *length = esp_call_header(call, "Content-Length");
    if (!name || !esp_name_ok(name)) return esp_fail_at(reterr, ESP_INVALID, "?name", "a name is needed: up to 128 of letters, digits and . _ -");
    strcpy(u->name, name);
    u->max = (uint64_t)esp_config_live(server->config.dataset_mib) << 20;
    if (length && strtoull(length, NULL, 10) > u->max)
        return esp_fail(reterr, ESP_TOO_LARGE, "datasets may have up to %d MiB", esp_config_live(server->config.dataset_mib));
    return parse_format(esp_call_header(call, "Content-Type"), &u->format, reterr);
}

static void *upload_begin(struct esp_server *server, esp_call *call, esp_error *reterr) {
    upload *u = calloc(1, sizeof *u);
    if (!u) {
        esp_fail(reterr, ESP_NOMEM, "no memory for an upload");
        return NULL;
    }
    u->fd = -1;
    esp_code code = upload_check(u, server, call, reterr);
    if (!code) code = esp_ingest_create(u->format, false, &u->ingest, reterr);
    if (!code && !(u->hash = esp_hash_create())) code = esp_fail(reterr, ESP_NOMEM, "no memory for an upload");
    if (!code) code = esp_blob_temp(server->registry, u->temp, reterr);
    if (!code && (u->fd = open(u->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0)
        code = esp_fail_errno(reterr, ESP_IO, "make a temporary file");
    if (!code) return u;
    upload_end(u);
    return NULL;
}

static esp_code upload_chunk(void *user, const char *bytes, size_t len, esp_error *reterr) {
    upload *u = user;
    u->bytes += len;
    if (u->bytes > u->max) return esp_fail(reterr, ESP_TOO_LARGE, "datasets may have up to %llu MiB", (unsigned long long)(u->max >> 20));
    esp_hash_add(u->hash, bytes, len);
    for (size_t done = 0; done < len;) {
        ssize_t n = write(u->fd, bytes + done, len - done);
        if (n < 0 && errno != EINTR) return esp_fail_errno(reterr, ESP_IO, "write the upload");
        if (n > 0) done += (size_t)n;
    }
    return esp_ingest_feed(u->ingest, bytes, len, reterr);
}

const esp_upload esp_api_datasets_upload = {upload_begin, upload_chunk, upload_end};

static esp_code insert(esp_db *db, void *user, esp_jsonw *reply, char ret_location[ESP_LOCATION_MAX], esp_error *reterr) {
    esp_dataset_row *row = user;
    esp_code code = esp_dataset_insert(db, row, reterr);
    if (code) return code;
    snprintf(ret_location, ESP_LOCATION_MAX, "/v1/datasets/%s", row->id);
    esp_jsonw_object(reply, NULL);
    code = esp_list_one(db, &list, "d.id = ?", row->id, reply, reterr);
    esp_jsonw_object_end(reply);
    return code;
}

/* The body has come whole: its last line, its blob. */
static esp_code upload_finish(upload *u, esp_server *server, esp_dataset_row *row, esp_error *reterr) {
    esp_code code = esp_ingest_finish(u->ingest, reterr);
    if (code) return code;
    const esp_dataset *counts = esp_ingest_counts(u->ingest);
    strcpy(row->name, u->name);
    strcpy(row->format, format_names[u->format]);
    row->trajectories = (int64_t)counts->n_trajectories;
    row->transitions = (int64_t)counts->n_transitions;
    row->ny = counts->ny;
    row->nu = counts->nu;
    row->bytes = (int64_t)u->bytes;
    esp_hash_finish(u->hash, row->sha256);
    int fd = u->fd;
    u->fd = -1;
    if (close(fd) != 0) return esp_fail_errno(reterr, ESP_IO, "write the upload");
    code = esp_blob_commit(server->registry, u->temp, row->sha256, reterr);
    if (!code) u->temp[0] = '\0';
    return code;
}

void esp_api_datasets_create(struct esp_server *server, esp_call *call) {
    esp_error error = {0};
    esp_dataset_row row = {0};
    if (upload_finish(esp_call_upload_state(call), server, &row, &error)) {
        esp_call_reply_error(call, &error);
    } else {
        esp_create_reply(server, call, &(esp_creating){.status = 201, .content = row.sha256, .insert = insert, .user = &row});
    }
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

void esp_api_datasets_list(struct esp_server *server, esp_call *call) {
    esp_list_reply(server, call, &list, NULL, NULL);
}

static esp_code find(struct esp_server *server, const char *ref, esp_dataset_row *row, esp_buf *json, esp_error *reterr) {
    esp_db *db = NULL;
    esp_jsonw w = esp_jsonw_on(json);
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_dataset_find(db, ref, row, reterr);
    if (!code) {
        esp_jsonw_object(&w, NULL);
        code = esp_list_one(db, &list, "d.id = ?", row->id, &w, reterr);
        esp_jsonw_object_end(&w);
    }
    esp_registry_read_end(server->registry, db);
    return code;
}

void esp_api_datasets_get(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {NULL};
    esp_error error = {0};
    esp_dataset_row row;
    esp_buf out = {0};
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = find(server, esp_call_path(call, "ref"), &row, &out, &error);
    esp_call_reply_made(call, code, &error, &out);
}

/* ---- data ----------------------------------------------------------------------------------------------------------- */

typedef struct conversion {
    esp_dataset *dataset;
    esp_data_format format;
    size_t next;
} conversion;

static int conversion_next(void *user, esp_buf *out) {
    conversion *c = user;
    while (out->len < 48 << 10 && c->next < c->dataset->n_trajectories) esp_dataset_format(c->dataset, c->next++, c->format, out);
    return c->next < c->dataset->n_trajectories;
}

static void conversion_end(void *user) {
    conversion *c = user;
    esp_dataset_free(c->dataset);
    free(c);
}

static void reply_converted(esp_call *call, const char *path, esp_data_format from, esp_data_format to) {
    esp_error error = {0};
    conversion *c = calloc(1, sizeof *c);
    esp_code code = c ? esp_dataset_load(path, from, &c->dataset, &error) : esp_fail(&error, ESP_NOMEM, "no memory for a conversion");
    if (code) {
        free(c);
        esp_call_reply_error(call, &error);
        return;
    }
    c->format = to;
    esp_call_reply_stream(call, format_types[to], (esp_producer){conversion_next, conversion_end, c}, NULL);
}

/* The form asked for: by `format`, or by the first media type of Accept that is one of ours; otherwise as stored. */
static esp_code wanted_format(const esp_call *call, esp_data_format stored, esp_data_format *ret, esp_error *reterr) {
    const char *name = esp_call_query(call, "format"), *accept = esp_call_header(call, "Accept");
    *ret = stored;
    if (name) {
        for (int i = 0; i < 2; i++) {
            if (strcmp(name, format_names[i]) != 0) continue;
            *ret = (esp_data_format)i;
            return ESP_OK;
        }
        return esp_fail_at(reterr, ESP_INVALID, "?format", "ndjson or csv is expected");
    }
    for (int i = 0; accept && i < 2; i++) {
        bool only = strncasecmp(accept, format_types[i], strlen(format_types[i])) == 0;
        if (only) *ret = (esp_data_format)i;
    }
    return ESP_OK;
}

void esp_api_datasets_data(struct esp_server *server, esp_call *call) {
    static const char *const known[] = {"format", NULL};
    esp_error error = {0};
    esp_dataset_row row;
    esp_data_format stored = ESP_DATA_NDJSON, wanted = ESP_DATA_NDJSON;
    esp_buf json = {0};
    char path[4096];
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = find(server, esp_call_path(call, "ref"), &row, &json, &error);
    if (!code) {
        stored = strcmp(row.format, "csv") == 0 ? ESP_DATA_CSV : ESP_DATA_NDJSON;
        code = wanted_format(call, stored, &wanted, &error);
    }
    esp_buf_done(&json);
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    char etag[ESP_HASH_HEX + 16];
    snprintf(etag, sizeof etag, "\"%s-%s\"", row.sha256, format_names[wanted]);
    if (esp_call_not_modified(call, etag)) return;
    esp_blob_path(server->registry, row.sha256, path);
    if (wanted == stored) {
        esp_call_reply_file(call, format_types[stored], etag, path);
    } else {
        reply_converted(call, path, stored, wanted);
    }
}
