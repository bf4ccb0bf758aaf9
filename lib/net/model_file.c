/* SPDX-License-Identifier: Apache-2.0
 * The model file: encode, decode, load. The layout is schema/formats/model.md; in short, little-endian,
 *
 *     "ESPM" version kind ny nu history frame n_layers widths[n_layers + 1]   (4-byte words)
 *     activations, a byte per neuron, layer by layer
 *     frame a b c d g (linear only), then w and b of each layer               (doubles)
 *     SHA-256 of everything before                                            (32 bytes)
 *
 * and for a graph network, version 2, what graph_file.c writes between the version and the SHA-256.
 *
 * One model has one encoding, so equal models have equal hashes. Decoding trusts nothing: the checksum first, then the
 * sizes against the caps and against the length of the file, and only then memory, which so never exceeds the file's
 * own size by more than a small factor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "net/model.h"
#include "net/net_bytes.h"

#define MAGIC      "ESPM"
#define VERSION    1
#define GRAPH      2 /* the version of a graph network's file */
#define SUM_BYTES  32
#define HEAD_WORDS 8
/* Caps of net.h and model.c: network and frame of ESP_MAX_PARAMETERS numbers each, and the words and bytes around. */
#define MAX_BYTES (2 * (size_t)ESP_MAX_PARAMETERS * 8 + (size_t)ESP_MAX_LAYERS * (ESP_MAX_WIDTH + 4) + 4096)

typedef struct header {
    uint32_t kind, ny, nu, history, frame;
    esp_net_shape net;
    size_t n_frame; /* numbers */
} header;

static void checksum(const void *bytes, size_t len, unsigned char ret[SUM_BYTES]) {
    char hex[ESP_HASH_HEX];
    esp_hash_bytes(bytes, len, hex);
    for (int i = 0; i < SUM_BYTES; i++) {
        unsigned high = (unsigned)(hex[2 * i] <= '9' ? hex[2 * i] - '0' : hex[2 * i] - 'a' + 10);
        unsigned low = (unsigned)(hex[2 * i + 1] <= '9' ? hex[2 * i + 1] - '0' : hex[2 * i + 1] - 'a' + 10);
        ret[i] = (unsigned char)(high << 4 | low);
    }
}

/* Numbers of a frame's five matrices, in the order of the file. */
static void frame_sizes(size_t ny, size_t nu, size_t history, size_t f_in, size_t f_out, size_t ret[5]) {
    ret[0] = ny * history * ny;
    ret[1] = ny * history * nu;
    ret[2] = f_in * history * ny;
    ret[3] = f_in * history * nu;
    ret[4] = ny * f_out;
}

static void put_head(const esp_model *model, esp_buf *out) {
    const esp_net *net = model->net;
    esp_buf_put(out, MAGIC, 4);
    esp_buf_put_u32(out, VERSION);
    esp_buf_put_u32(out, (uint32_t)model->kind);
    esp_buf_put_u32(out, (uint32_t)model->ny);
    esp_buf_put_u32(out, (uint32_t)model->nu);
    esp_buf_put_u32(out, (uint32_t)model->history);
    esp_buf_put_u32(out, (uint32_t)model->frame.kind);
    esp_net_put_shape(net, out);
    esp_net_put_acts(net, out);
}

static void put_plain(const esp_model *model, esp_buf *out) {
    const esp_frame *frame = &model->frame;
    const esp_net *net = model->net;
    put_head(model, out);
    if (frame->kind == ESP_FRAME_LINEAR) {
        const double *const matrices[5] = {frame->a, frame->b, frame->c, frame->d, frame->g};
        size_t sizes[5];
        frame_sizes((size_t)model->ny, (size_t)model->nu, (size_t)model->history, (size_t)esp_net_inputs(net), (size_t)esp_net_outputs(net), sizes);
        for (int i = 0; i < 5; i++) esp_buf_put_doubles(out, matrices[i], sizes[i]);
    }
    esp_net_put_numbers(net, out);
}

static void put_graph(const esp_graph *graph, esp_buf *out) {
    esp_buf_put(out, MAGIC, 4);
    esp_buf_put_u32(out, GRAPH);
    esp_graph_put(graph, out);
}

esp_code esp_model_encode(const esp_model *model, esp_buf *ret_bytes, esp_error *reterr) {
    esp_buf out = {0};
    if (model->graph)
        put_graph(model->graph, &out);
    else
        put_plain(model, &out);
    unsigned char sum[SUM_BYTES] = {0};
    if (!out.failed) checksum(out.data, out.len, sum);
    esp_buf_put(&out, sum, sizeof sum);
    if (!out.failed) esp_buf_put(ret_bytes, out.data, out.len);
    bool failed = out.failed || ret_bytes->failed;
    esp_buf_done(&out);
    return failed ? esp_fail(reterr, ESP_NOMEM, "encode a model of %lld parameters", (long long)esp_model_parameters(model)) : ESP_OK;
}

/* Length, magic, version and checksum. */
static esp_code check_envelope(const unsigned char *bytes, size_t len, uint32_t *ret_version, esp_error *reterr) {
    unsigned char sum[SUM_BYTES];
    if (len < 4 || memcmp(bytes, MAGIC, 4) != 0) return esp_fail(reterr, ESP_INVALID, "not a model file: it must begin with \"" MAGIC "\"");
    if (len < HEAD_WORDS * 4 + SUM_BYTES) return esp_fail(reterr, ESP_CORRUPT, "a model file of %zu bytes is cut short", len);
    esp_cursor cursor = {bytes, len, 4, false};
    uint32_t version = esp_cursor_u32(&cursor);
    if (version != VERSION && version != GRAPH)
        return esp_fail(reterr, ESP_INVALID, "model file version %u; this program reads versions %d and %d", version, VERSION, GRAPH);
    checksum(bytes, len - SUM_BYTES, sum);
    if (memcmp(sum, bytes + len - SUM_BYTES, SUM_BYTES) != 0) return esp_fail(reterr, ESP_CORRUPT, "the model file's checksum does not hold");
    *ret_version = version;
    return ESP_OK;
}

static esp_code read_head(esp_cursor *cursor, header *head, esp_error *reterr) {
    *head = (header){.kind = esp_cursor_u32(cursor)};
    head->ny = esp_cursor_u32(cursor);
    head->nu = esp_cursor_u32(cursor);
    head->history = esp_cursor_u32(cursor);
    head->frame = esp_cursor_u32(cursor);
    if (head->kind > ESP_MODEL_POLICY || head->frame > ESP_FRAME_LINEAR)
        return esp_fail(reterr, ESP_CORRUPT, "model kind %u with frame %u", head->kind, head->frame);
    if (head->ny > ESP_MAX_WIDTH || head->nu > ESP_MAX_WIDTH || head->history > ESP_MAX_HISTORY)
        return esp_fail(reterr, ESP_CORRUPT, "a model file of ny %u, nu %u, history %u", head->ny, head->nu, head->history);
    esp_code code = esp_net_take_shape(cursor, &head->net, reterr);
    if (code != ESP_OK) return code;
    if (head->frame == ESP_FRAME_LINEAR) {
        size_t sizes[5];
        frame_sizes(head->ny, head->nu, head->history, (size_t)head->net.widths[0], (size_t)head->net.widths[head->net.n_layers], sizes);
        for (int i = 0; i < 5; i++) head->n_frame += sizes[i];
    }
    size_t left = cursor->len - cursor->pos, due = head->net.n_act + 8 * (head->n_frame + head->net.n_numbers);
    if (cursor->failed || left != due)
        return esp_fail(reterr, ESP_CORRUPT, "%zu bytes follow the model file's head; its sizes ask for %zu", left, due);
    return ESP_OK;
}

/* The frame's matrices into `block`, which the caller frees; borrowed by *ret_frame. */
static void read_frame(esp_cursor *cursor, const header *head, double *block, esp_frame *ret_frame) {
    ret_frame->kind = (esp_frame_kind)head->frame;
    if (head->frame != ESP_FRAME_LINEAR) return;
    double **const to[5] = {&ret_frame->a, &ret_frame->b, &ret_frame->c, &ret_frame->d, &ret_frame->g};
    size_t sizes[5];
    frame_sizes(head->ny, head->nu, head->history, (size_t)head->net.widths[0], (size_t)head->net.widths[head->net.n_layers], sizes);
    for (int i = 0; i < 5; i++) {
        *to[i] = block;
        esp_cursor_doubles(cursor, block, sizes[i]);
        block += sizes[i];
    }
}

static esp_code read_plain(esp_cursor *cursor, esp_model **ret_model, esp_error *reterr) {
    header head;
    esp_net *net = NULL;
    double *block = NULL;
    esp_frame frame = {0};
    esp_error why = {0};
    esp_code code = read_head(cursor, &head, reterr);
    if (code != ESP_OK) return code;
    block = malloc(head.n_frame * sizeof *block + 1);
    code = block ? esp_net_take_acts(cursor, &head.net, &net, reterr) : esp_fail(reterr, ESP_NOMEM, "a frame of %zu numbers", head.n_frame);
    if (code != ESP_OK) goto out;
    read_frame(cursor, &head, block, &frame);
    esp_net_take_numbers(cursor, net);
    code = esp_model_create((esp_model_kind)head.kind, (int)head.ny, (int)head.nu, (int)head.history, &frame, net, ret_model, &why);
    if (code != ESP_OK) code = esp_fail(reterr, code == ESP_INVALID ? ESP_CORRUPT : code, "model file: %s", why.message);
out:
    free(block);
    return code;
}

static esp_code read_graph(esp_cursor *cursor, esp_model **ret_model, esp_error *reterr) {
    esp_graph *graph = NULL;
    esp_error why = {0};
    esp_code code = esp_graph_take(cursor, &graph, reterr);
    if (code != ESP_OK) return code;
    code = esp_model_create_graph(graph, ret_model, &why);
    return code == ESP_OK ? ESP_OK : esp_fail(reterr, code == ESP_INVALID ? ESP_CORRUPT : code, "model file: %s", why.message);
}

esp_code esp_model_decode(const void *bytes, size_t len, esp_model **ret_model, esp_error *reterr) {
    uint32_t version = 0;
    esp_code code = check_envelope(bytes, len, &version, reterr);
    if (code != ESP_OK) return code;
    esp_cursor cursor = {bytes, len - SUM_BYTES, 8, false};
    return version == GRAPH ? read_graph(&cursor, ret_model, reterr) : read_plain(&cursor, ret_model, reterr);
}

esp_code esp_model_load(const char *path, esp_model **ret_model, esp_error *reterr) {
    esp_buf bytes = {0};
    esp_code code = esp_file_read(path, MAX_BYTES, &bytes, reterr);
    if (code == ESP_OK) {
        code = esp_model_decode(bytes.data, bytes.len, ret_model, reterr);
        if (code != ESP_OK) code = esp_error_wrap(reterr, code, "%s", path);
    }
    esp_buf_done(&bytes);
    return code;
}
