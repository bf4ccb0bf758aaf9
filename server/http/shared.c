/* SPDX-License-Identifier: Apache-2.0
 * A body that many replies send at once, gone with the last of them. */
#include <stdlib.h>

#include "http/call.h"

struct esp_shared {
    atomic_int refs;
    char *bytes;
    size_t len;
};

esp_shared *esp_shared_create(esp_buf *take_bytes) {
    esp_shared *shared = take_bytes->failed ? NULL : malloc(sizeof *shared);
    if (!shared) return NULL;
    atomic_init(&shared->refs, 1);
    shared->bytes = esp_buf_take(take_bytes, &shared->len);
    if (shared->bytes) return shared;
    free(shared);
    return NULL;
}

esp_shared *esp_shared_ref(esp_shared *shared) {
    atomic_fetch_add(&shared->refs, 1);
    return shared;
}

void esp_shared_unref(esp_shared *shared) {
    if (!shared || atomic_fetch_sub(&shared->refs, 1) != 1) return;
    free(shared->bytes);
    free(shared);
}

size_t esp_shared_len(const esp_shared *shared) {
    return shared->len;
}

static void let_go(void *user) {
    esp_shared_unref(user);
}

void esp_call_reply_shared(esp_call *call, int status, const char *content_type, esp_shared *shared) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer_with_free_callback_cls(shared->len, shared->bytes, let_go, esp_shared_ref(shared));
    if (!response) esp_shared_unref(shared);
    call->sent = shared->len;
    esp_call_set_response(call, status, content_type, response);
    esp_call_finish(call);
}
