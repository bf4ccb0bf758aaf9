/* SPDX-License-Identifier: Apache-2.0
 * A model: a network with the frame that says what it predicts, and its two file forms.
 *
 * dynamics: y(t+1) = A Y + B U + G f(C Y + D U), with Y the last `history` outputs stacked oldest first
 *           (history * ny) and U the last `history` inputs, oldest first, u(t) last (history * nu).
 *           NONE: y(t+1) = f(Y, U).  RESIDUAL: y(t+1) = y(t) + f(Y, U).  LINEAR: matrices as given.
 * policy:   u = f(y); ny inputs, nu outputs, history 1, no frame.
 * graph:    dynamics of n objects by a graph network (net/graph.h), history 1, no frame and no net. What is stored is the
 *           network; a model of it is for the number of objects that it was trained with, all joined, until it is bound
 *           to a state (esp_model_bind). What needs layers takes its plain form (esp_model_flatten).
 *
 * The model's input x, everywhere outside this folder, is [Y, U] (n_x = history * (ny + nu); policy: n_x = ny).
 * Immutable once made. */
#ifndef ESP_NET_MODEL_H
#define ESP_NET_MODEL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "net/graph.h"
#include "net/net.h"

typedef enum esp_model_kind { ESP_MODEL_DYNAMICS, ESP_MODEL_POLICY } esp_model_kind;
extern const char *const esp_model_kind_names[]; /* "dynamics", "policy", NULL */

typedef enum esp_frame_kind { ESP_FRAME_NONE, ESP_FRAME_RESIDUAL, ESP_FRAME_LINEAR } esp_frame_kind;

typedef struct esp_frame {
    esp_frame_kind kind;
    /* LINEAR only; nY = history * ny, nU = history * nu, nf_in and nf_out the network's inputs and outputs */
    double *a; /* ny x nY */
    double *b; /* ny x nU */
    double *c; /* nf_in x nY */
    double *d; /* nf_in x nU */
    double *g; /* ny x nf_out */
} esp_frame;

typedef struct esp_model {
    esp_model_kind kind;
    int ny, nu, history;
    esp_frame frame;
    esp_net *net; /* owned; NULL for a graph */
    esp_graph *graph; /* owned; NULL unless a graph: n_objects of them, with n_edges edges */
    esp_edge *edges;
    int n_objects, n_edges;
} esp_model;

#define ESP_MAX_HISTORY 64

static inline int esp_model_n_x(const esp_model *model) {
    return model->kind == ESP_MODEL_POLICY ? model->ny : model->history * (model->ny + model->nu);
}
static inline int esp_model_n_y(const esp_model *model) {
    return model->kind == ESP_MODEL_POLICY ? model->nu : model->ny;
}

/* Takes the net (owned by the model, freed too on failure) and copies the frame's matrices. Checks every size. */
ESP_MUST_CHECK esp_code esp_model_create(esp_model_kind kind, int ny, int nu, int history, const esp_frame *frame, esp_net *net,
                                         esp_model **ret_model, esp_error *reterr);
void esp_model_free(esp_model *model);

/* Takes the graph: dynamics of as many objects as it was trained with, all joined. */
ESP_MUST_CHECK esp_code esp_model_create_graph(esp_graph *graph, esp_model **ret_model, esp_error *reterr);
/* The graph model with the objects that an observation of ny numbers has, and the edges that they have at y (NULL: all).
 * Errors: UNPROCESSABLE when ny is no whole number of objects, NOMEM. */
ESP_MUST_CHECK esp_code esp_model_bind(const esp_model *model, int ny, const double *y, esp_model **ret_model, esp_error *reterr);
/* The same for all observations of a box (ny numbers each side): its objects are joined in all of it or in none.
 * Errors: UNPROCESSABLE when two of them are within the radius in part of it only. */
ESP_MUST_CHECK esp_code esp_model_bind_box(const esp_model *model, int ny, const double *lower, const double *upper, esp_model **ret_model,
                                           esp_error *reterr);
/* A graph model as plain dynamics without a frame, whose program is that of the graph to the bit: a layer for each of its
 * levels, and neurons that carry on what a later one needs. Errors: UNPROCESSABLE when it is too large for a network, NOMEM. */
ESP_MUST_CHECK esp_code esp_model_flatten(const esp_model *model, esp_model **ret_model, esp_error *reterr);

/* Neurons that are ReLU, all copies counted; weights and biases, and those that are not 0, copies counted once. */
int64_t esp_model_relus(const esp_model *model);
int64_t esp_model_parameters(const esp_model *model);
int64_t esp_model_nonzero(const esp_model *model);

/* The frame of a train job: absent or null = NONE, "residual", or {"a","b","c","d","g"} for ny, nu, history.
 * Matrices go into the arena; *ret_f_in, *ret_f_out are the network's sizes that the frame asks for. */
ESP_MUST_CHECK esp_code esp_frame_parse(const esp_reader *reader, int ny, int nu, int history, esp_arena *arena, esp_frame *ret_frame, int *ret_f_in,
                                        int *ret_f_out, esp_error *reterr);
/* The network's input v (nf_in) = C Y + D U (or [Y, U]) for x = [Y, U]. */
void esp_frame_input(const esp_frame *frame, int ny, int nu, int history, int nf_in, const double *x, double *ret_v);
/* The part of y(t+1) known without the network: A Y + B U (or y(t), or 0); ret (ny). */
void esp_frame_known(const esp_frame *frame, int ny, int nu, int history, const double *x, double *ret_y);

/* The plain network of API.md, {"layers":[{"w","b","activation"}],"history","nu","frame"}, or a graph network,
 * {"ny","nu","graph"} (graph_json.c). */
ESP_MUST_CHECK esp_code esp_model_parse_json(const esp_reader *reader, esp_model_kind kind, esp_model **ret_model, esp_error *reterr);
void esp_model_format_json(const esp_model *model, esp_jsonw *w);

/* The project's own format, schema/formats/model.md: deterministic bytes, so equal models have equal hashes. */
ESP_MUST_CHECK esp_code esp_model_encode(const esp_model *model, esp_buf *ret_bytes, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_model_decode(const void *bytes, size_t len, esp_model **ret_model, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_model_load(const char *path, esp_model **ret_model, esp_error *reterr);

#endif
