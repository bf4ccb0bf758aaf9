/* SPDX-License-Identifier: Apache-2.0
 * DELETE of models and datasets; what may stand in the way is registry/deletion.c. */
#include "api.h"
#include "log.h"
#include "server.h"
#include "tokens.h"

typedef struct deletion {
    const char *ref, *actor;
    esp_code (*run)(esp_db *db, const char *ref, const char *actor, esp_error *reterr);
} deletion;

static esp_code write_deletion(esp_db *db, void *user, esp_error *reterr) {
    const deletion *d = user;
    return d->run(db, d->ref, d->actor, reterr);
}

static void erase(struct esp_server *server, esp_call *call, const char *what,
                  esp_code (*run)(esp_db *db, const char *ref, const char *actor, esp_error *reterr)) {
    static const char *const known[] = {NULL};
    const esp_token *token = esp_call_token(call);
    esp_error error = {0};
    esp_buf nothing = {0};
    deletion d = {esp_call_path(call, "ref"), *token->id ? token->name : NULL, run};
    esp_code code = esp_call_query_check(call, known, &error);
    if (!code) code = esp_registry_write(server->registry, write_deletion, &d, &error);
    if (code) {
        esp_call_reply_error(call, &error);
        return;
    }
    esp_log(ESP_LOG_NOTICE, "delete", "what=%s ref=%s by=%s", what, d.ref, d.actor ? d.actor : "-");
    esp_call_reply(call, 204, NULL, &nothing);
}

void esp_api_models_delete(struct esp_server *server, esp_call *call) {
    erase(server, call, "model", esp_model_delete);
}

void esp_api_datasets_delete(struct esp_server *server, esp_call *call) {
    erase(server, call, "dataset", esp_dataset_delete);
}
