/* SPDX-License-Identifier: Apache-2.0
 * SHA-256 through Nettle; the only file that includes it. */
#include "base/hash.h"

#include <nettle/sha2.h>
#include <stdlib.h>

struct esp_hash {
    struct sha256_ctx context;
};

esp_hash *esp_hash_create(void) {
    esp_hash *hash = malloc(sizeof *hash);
    if (hash) sha256_init(&hash->context);
    return hash;
}

void esp_hash_free(esp_hash *hash) {
    free(hash);
}

void esp_hash_add(esp_hash *hash, const void *bytes, size_t len) {
    sha256_update(&hash->context, len, bytes);
}

static void digest_hex(struct sha256_ctx *context, char ret_hex[ESP_HASH_HEX]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(context, sizeof digest, digest); /* resets the context */
    for (size_t i = 0; i < sizeof digest; i++) {
        ret_hex[2 * i] = digits[digest[i] >> 4];
        ret_hex[2 * i + 1] = digits[digest[i] & 15];
    }
    ret_hex[2 * sizeof digest] = '\0';
}

void esp_hash_finish(esp_hash *hash, char ret_hex[ESP_HASH_HEX]) {
    digest_hex(&hash->context, ret_hex);
}

void esp_hash_bytes(const void *bytes, size_t len, char ret_hex[ESP_HASH_HEX]) {
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, len, bytes);
    digest_hex(&context, ret_hex);
}
