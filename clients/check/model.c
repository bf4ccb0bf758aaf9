/* SPDX-License-Identifier: Apache-2.0
 * The model file, read as schema/formats/model.md says. Not a judge of what the model is good for. */
#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"

enum { LAYERS_MAX = 64, WIDTH_MAX = 4096, HISTORY_MAX = 64, PARAMETERS_MAX = 16777216, HEAD = 32, SUM = 32 };

unsigned char *chk_file_read(const char *path, size_t most, size_t *ret_len, char *why) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = NULL;
    size_t len = 0, room = 0, got = 1;
    if (!file) {
        snprintf(why, 200, "cannot open %.150s", path);
        return NULL;
    }
    while (got) {
        if (len == room) {
            room = room ? 2 * room : 65536;
            unsigned char *more = room <= 2 * most + 65536 ? realloc(bytes, room) : NULL;
            if (!more) break;
            bytes = more;
        }
        got = fread(bytes + len, 1, room - len, file);
        len += got;
    }
    bool whole = !got && !ferror(file) && len <= most;
    fclose(file);
    if (!whole) {
        snprintf(why, 200, "cannot read %.150s", path);
        free(bytes);
        return NULL;
    }
    *ret_len = len;
    return bytes;
}

void chk_sha256(const void *bytes, size_t len, char ret_hex[65]) {
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    sha256_update(&sha, len, bytes);
    sha256_digest(&sha, sizeof digest, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
}

static uint32_t number_at(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static double real_at(const unsigned char *p) {
    uint64_t bits = (uint64_t)number_at(p) | (uint64_t)number_at(p + 4) << 32;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The head's numbers, checked against the caps. */
typedef struct head {
    uint32_t kind, ny, nu, history, frame, layers, widths[LAYERS_MAX + 1];
    size_t at; /* of what follows the widths */
    size_t neurons, parameters, framed; /* numbers of the frame */
} head;

static bool read_head(const unsigned char *bytes, size_t len, head *h) {
    if (len < HEAD + SUM || memcmp(bytes, "ESPM", 4) != 0 || number_at(bytes + 4) != 1) return false;
    h->kind = number_at(bytes + 8);
    h->ny = number_at(bytes + 12);
    h->nu = number_at(bytes + 16);
    h->history = number_at(bytes + 20);
    h->frame = number_at(bytes + 24);
    h->layers = number_at(bytes + 28);
    if (h->kind > 1 || h->frame > 2 || h->layers < 1 || h->layers > LAYERS_MAX || h->history < 1 || h->history > HISTORY_MAX) return false;
    if (h->ny < 1 || h->ny > WIDTH_MAX || h->nu > WIDTH_MAX || h->history * (h->ny + h->nu) > WIDTH_MAX) return false;
    if (h->kind == 1 && (h->history != 1 || h->frame != 0 || h->nu < 1)) return false;
    h->at = HEAD + 4 * ((size_t)h->layers + 1);
    if (len < h->at + SUM) return false;
    for (uint32_t l = 0; l <= h->layers; l++) {
        h->widths[l] = number_at(bytes + HEAD + 4 * l);
        if (h->widths[l] < 1 || h->widths[l] > WIDTH_MAX) return false;
        if (l == 0) continue;
        h->neurons += h->widths[l];
        h->parameters += (size_t)h->widths[l] * (h->widths[l - 1] + 1);
    }
    size_t n_in = h->widths[0], n_out = h->widths[h->layers], n_x = (size_t)h->history * (h->ny + h->nu);
    if (h->frame == 2) h->framed = (h->ny + n_in) * n_x + h->ny * n_out;
    if (h->kind == 1 && (n_in != h->ny || n_out != h->nu)) return false;
    if (h->kind == 0 && h->frame != 2 && (n_in != n_x || n_out != h->ny)) return false;
    if (h->parameters > PARAMETERS_MAX || h->framed > PARAMETERS_MAX) return false;
    return len == h->at + h->neurons + 8 * (h->framed + h->parameters) + SUM;
}

/* Matrices V, K, G from the frame's numbers A, B, C, D, G in this order; or of none, or a residual. */
static bool make_maps(chk_model *m, const head *h, const double *frame) {
    size_t n_x = (size_t)m->n_x, n_v = (size_t)m->n_v, n_y = (size_t)m->n_y, n_f = (size_t)m->n_f, n_yh = (size_t)m->history * (size_t)m->ny;
    double *maps = calloc(n_v * n_x + n_y * n_x + n_y * n_f, sizeof *maps);
    if (!maps) return false;
    m->memory[2] = maps;
    m->v = maps;
    m->k = m->v + n_v * n_x;
    m->g = m->k + n_y * n_x;
    if (h->frame == 2) {
        size_t n_uh = n_x - n_yh;
        for (size_t i = 0; i < n_y; i++)
            for (size_t j = 0; j < n_x; j++) m->k[i * n_x + j] = j < n_yh ? frame[i * n_yh + j] : frame[n_y * n_yh + i * n_uh + j - n_yh];
        const double *c = frame + n_y * n_x;
        for (size_t i = 0; i < n_v; i++)
            for (size_t j = 0; j < n_x; j++) m->v[i * n_x + j] = j < n_yh ? c[i * n_yh + j] : c[n_v * n_yh + i * n_uh + j - n_yh];
        memcpy(m->g, c + n_v * n_x, n_y * n_f * sizeof *m->g);
        return true;
    }
    for (size_t i = 0; i < n_v; i++) m->v[i * n_x + i] = 1;
    for (size_t i = 0; i < n_y; i++) {
        m->g[i * n_f + i] = 1;
        if (h->frame == 1) m->k[i * n_x + n_yh - n_y + i] = 1;
    }
    return true;
}

static bool fill(chk_model *m, const head *h, const unsigned char *bytes) {
    size_t n = h->framed + h->parameters, at = h->at + h->neurons;
    unsigned char *act = malloc(h->neurons);
    double *numbers = malloc((n + 1) * sizeof *numbers);
    m->memory[0] = act;
    m->memory[1] = numbers;
    if (!act || !numbers) return false;
    memcpy(act, bytes + h->at, h->neurons);
    for (size_t i = 0; i < h->neurons; i++)
        if (act[i] > 2) return false;
    for (size_t i = 0; i < n; i++) {
        numbers[i] = real_at(bytes + at + 8 * i);
        if (!isfinite(numbers[i])) return false;
    }
    m->policy = h->kind == 1;
    m->ny = (int)h->ny;
    m->nu = (int)h->nu;
    m->history = (int)h->history;
    m->n_x = m->policy ? m->ny : m->history * (m->ny + m->nu);
    m->n_y = m->policy ? m->nu : m->ny;
    m->n_layers = (int)h->layers;
    m->n_v = (int)h->widths[0];
    m->n_f = (int)h->widths[h->layers];
    const double *next = numbers + h->framed;
    for (int l = 0; l < m->n_layers; l++) {
        chk_layer *layer = &m->layers[l];
        *layer = (chk_layer){(int)h->widths[l], (int)h->widths[l + 1], next, next + (size_t)h->widths[l] * h->widths[l + 1], act};
        next = layer->b + layer->n_out;
        act += layer->n_out;
    }
    return make_maps(m, h, numbers);
}

chk_model *chk_model_read(const char *path, char *why) {
    size_t len = 0;
    head h = {0};
    char sum[65], stored[65];
    unsigned char *bytes = chk_file_read(path, (size_t)1 << 29, &len, why);
    if (!bytes) return NULL;
    chk_model *model = calloc(1, sizeof *model);
    bool fine = model && read_head(bytes, len, &h);
    if (fine) {
        chk_sha256(bytes, len - SUM, sum);
        for (int i = 0; i < SUM; i++) snprintf(stored + 2 * i, 3, "%02x", bytes[len - SUM + (size_t)i]);
        fine = memcmp(sum, stored, 64) == 0 && fill(model, &h, bytes);
    }
    if (fine) {
        chk_sha256(bytes, len, model->sha256);
    } else {
        snprintf(why, 200, "%.150s is no model file, or a damaged one", path);
        chk_model_free(model);
        model = NULL;
    }
    free(bytes);
    return model;
}

void chk_model_free(chk_model *model) {
    if (!model) return;
    for (int k = 0; k < 3; k++) free(model->memory[k]);
    free(model);
}
