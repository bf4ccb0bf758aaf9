/* SPDX-License-Identifier: Apache-2.0
 * The kept names: one place for each hash of a name, the latest stays. */
#include "names.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ontime.h"
#include "registry/query.h"

enum { PLACES = 1024 };

typedef struct place {
    uint64_t changes;
    char ref[ESP_REF_MAX + 1]; /* "": free */
    esp_name name;
} place;

struct esp_names {
    pthread_mutex_t lock;
    place places[PLACES];
};

esp_names *esp_names_create(void) {
    esp_names *names = calloc(1, sizeof *names);
    if (names) esp_ontime_lock_init(&names->lock);
    return names;
}

void esp_names_free(esp_names *names) {
    if (!names) return;
    pthread_mutex_destroy(&names->lock);
    free(names);
}

static place *place_of(esp_names *names, const char *ref) {
    uint64_t hash = 14695981039346656037u;
    for (const char *c = ref; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return &names->places[(hash >> 32) % PLACES];
}

bool esp_name_known(esp_server *server, const char *ref, esp_name *ret) {
    uint64_t changes = esp_registry_changes(server->registry, false);
    place *p = place_of(server->names, ref);
    pthread_mutex_lock(&server->names->lock);
    bool known = *ref && p->changes == changes && strcmp(p->ref, ref) == 0;
    if (known) *ret = p->name;
    pthread_mutex_unlock(&server->names->lock);
    return known;
}

static void keep(esp_names *names, const char *ref, uint64_t changes, const esp_name *name) {
    size_t len = strlen(ref);
    place *p = place_of(names, ref);
    if (len > ESP_REF_MAX) return;
    pthread_mutex_lock(&names->lock);
    memcpy(p->ref, ref, len + 1);
    p->changes = changes;
    p->name = *name;
    pthread_mutex_unlock(&names->lock);
}

esp_code esp_name_find(esp_server *server, const char *ref, esp_name *ret, esp_error *reterr) {
    esp_db *db = NULL;
    esp_model_row row = {0};
    if (esp_name_known(server, ref, ret)) return ESP_OK;
    uint64_t changes = esp_registry_changes(server->registry, false); /* before the read */
    esp_code code = esp_registry_read_begin(server->registry, &db, reterr);
    if (code) return code;
    code = esp_model_find(db, ref, &row, reterr);
    esp_registry_read_end(server->registry, db);
    if (code) return code;
    esp_name name = {.ny = row.ny, .nu = row.nu, .history = row.history};
    strcpy(name.sha256, row.sha256);
    strcpy(name.kind, row.kind);
    esp_model_row_done(&row);
    keep(server->names, ref, changes, &name);
    *ret = name;
    return ESP_OK;
}
