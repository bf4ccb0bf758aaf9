/* SPDX-License-Identifier: Apache-2.0
 * What one address may have: so many connections at once, so many requests a second.
 *
 * An IPv6 address counts by its /64, which is what one host has to itself. Addresses of `address_exempt` are not counted: behind
 * a proxy all clients come from one, and limits are then the proxy's. An entry is there for as long as it has connections or a
 * bucket that is not full again. */
#include "http/call.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "metrics.h"
#include "ontime.h"
#include "server.h"

enum { BUCKETS = 1024, EXEMPT_MAX = 32, KEY = 16 };

struct esp_address {
    unsigned char key[KEY];
    int connections;
    double level; /* requests that may come at once; a second's worth at most */
    int64_t at_ns; /* when it was that */
    bool exempt;
    esp_address *next;
};

typedef struct network {
    unsigned char key[KEY];
    int bits;
} network;

struct esp_addresses {
    pthread_mutex_t lock;
    const esp_config *config; /* its limits are LIVE */
    network exempt[EXEMPT_MAX];
    int n_exempt;
    esp_address *table[BUCKETS];
};

/* ---- addresses as keys ---------------------------------------------------------------------------------------------- */

static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:0:0/96, where IPv4 is */

static bool is_mapped(const unsigned char key[KEY]) {
    return memcmp(key, mapped, sizeof mapped) == 0;
}

static void whole_key(const struct sockaddr *from, unsigned char ret_key[KEY]) {
    memset(ret_key, 0, KEY);
    if (from->sa_family == AF_INET) {
        memcpy(ret_key, mapped, sizeof mapped);
        memcpy(ret_key + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr, 4);
    } else if (from->sa_family == AF_INET6) {
        memcpy(ret_key, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr, KEY);
    }
}

static bool same_bits(const unsigned char *a, const unsigned char *b, int bits) {
    int whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, (size_t)whole) != 0) return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

/* "127.0.0.0/8", "::1". */
static bool parse_network(const char *text, size_t len, network *ret) {
    char address[64];
    const char *slash = memchr(text, '/', len);
    size_t n = slash ? (size_t)(slash - text) : len;
    int most = 128;
    if (n == 0 || n >= sizeof address) return false;
    memcpy(address, text, n);
    address[n] = '\0';
    memset(ret, 0, sizeof *ret);
    if (inet_pton(AF_INET, address, ret->key + 12) == 1) {
        memcpy(ret->key, mapped, sizeof mapped);
        most = 32;
    } else if (inet_pton(AF_INET6, address, ret->key) != 1) {
        return false;
    }
    char *end = NULL;
    long bits = slash ? strtol(slash + 1, &end, 10) : most;
    if (slash && (end == slash + 1 || end != text + len)) return false;
    ret->bits = (int)bits + (128 - most);
    return bits >= 0 && bits <= most;
}

static esp_code parse_exempt(esp_addresses *a, const char *text, esp_error *reterr) {
    for (const char *p = text + strspn(text, " ,"); *p; p += strspn(p, " ,")) {
        size_t len = strcspn(p, " ,");
        if (a->n_exempt == EXEMPT_MAX) return esp_fail_at(reterr, ESP_INVALID, "address_exempt", "address_exempt takes %d networks", EXEMPT_MAX);
        if (!parse_network(p, len, &a->exempt[a->n_exempt++]))
            return esp_fail_at(reterr, ESP_INVALID, "address_exempt", "address_exempt: '%.*s' is not an address or a network",
                               (int)(len < 60 ? len : 60), p);
        p += len;
    }
    return ESP_OK;
}

static bool is_exempt(const esp_addresses *a, const unsigned char key[KEY]) {
    for (int i = 0; i < a->n_exempt; i++) {
        if (same_bits(key, a->exempt[i].key, a->exempt[i].bits)) return true;
    }
    return false;
}

/* ---- the table ------------------------------------------------------------------------------------------------------ */

esp_code esp_addresses_create(const esp_config *config, esp_addresses **ret, esp_error *reterr) {
    esp_addresses *a = calloc(1, sizeof *a);
    if (!a) return esp_fail(reterr, ESP_NOMEM, "no memory for addresses");
    esp_code code = parse_exempt(a, config->address_exempt, reterr);
    if (code) {
        free(a);
        return code;
    }
    a->config = config;
    esp_ontime_lock_init(&a->lock);
    *ret = a;
    return ESP_OK;
}

void esp_addresses_free(esp_addresses *a) {
    if (!a) return;
    for (int i = 0; i < BUCKETS; i++) {
        while (a->table[i]) {
            esp_address *next = a->table[i]->next;
            free(a->table[i]);
            a->table[i] = next;
        }
    }
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static esp_address **place(esp_addresses *a, const unsigned char key[KEY]) {
    uint64_t hash = 1469598103934665603u;
    for (int i = 0; i < KEY; i++) hash = (hash ^ key[i]) * 1099511628211u;
    esp_address **link = &a->table[hash % BUCKETS];
    while (*link && memcmp((*link)->key, key, KEY) != 0) link = &(*link)->next;
    return link;
}

esp_address *esp_address_open(esp_addresses *a, const struct sockaddr *from) {
    unsigned char key[KEY];
    whole_key(from, key);
    bool exempt = is_exempt(a, key);
    if (!exempt && !is_mapped(key)) memset(key + 8, 0, 8);
    pthread_mutex_lock(&a->lock);
    esp_address **link = place(a, key), *address = *link;
    if (!address && (address = calloc(1, sizeof *address))) {
        memcpy(address->key, key, KEY);
        address->level = esp_config_live(a->config->address_requests);
        address->at_ns = esp_clock_now_ns();
        address->exempt = exempt;
        *link = address;
    }
    int most = esp_config_live(a->config->address_connections);
    bool good = address && (exempt || most == 0 || address->connections < most);
    if (good) address->connections++;
    pthread_mutex_unlock(&a->lock);
    if (!good) esp_metric_add(ESP_METRIC_CONNECTIONS_REFUSED, 1);
    return good ? address : NULL;
}

void esp_address_close(esp_addresses *a, esp_address *address) {
    pthread_mutex_lock(&a->lock);
    address->connections--;
    pthread_mutex_unlock(&a->lock);
}

bool esp_address_draw(esp_addresses *a, esp_address *address) {
    double rate = esp_config_live(a->config->address_requests);
    int64_t now = esp_clock_now_ns();
    if (rate <= 0 || address->exempt) return true;
    pthread_mutex_lock(&a->lock);
    address->level += (double)(now - address->at_ns) * 1e-9 * rate;
    if (address->level > rate) address->level = rate;
    address->at_ns = now;
    bool good = address->level >= 1;
    if (good) address->level -= 1;
    pthread_mutex_unlock(&a->lock);
    return good;
}

/* A bucket is full again a second after its last request. */
void esp_addresses_sweep(esp_addresses *a) {
    int64_t now = esp_clock_now_ns();
    pthread_mutex_lock(&a->lock);
    for (int i = 0; i < BUCKETS; i++) {
        for (esp_address **link = &a->table[i]; *link;) {
            esp_address *address = *link;
            if (address->connections > 0 || now - address->at_ns < ESP_NS_PER_S) {
                link = &address->next;
                continue;
            }
            *link = address->next;
            free(address);
        }
    }
    pthread_mutex_unlock(&a->lock);
}
