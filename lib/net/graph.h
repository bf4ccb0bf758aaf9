/* SPDX-License-Identifier: Apache-2.0
 * A graph network: the dynamics of any number of like objects, by messages between them.
 *
 * The form is that of propagation networks (Li et al., "Propagation networks for model-based control under partial
 * observation", 2019; the sorting task of the sparse-dynamics paper). With n objects, an edge i <- j for each pair that is
 * near, and five small networks (esp_net) that all objects and all edges share:
 *     h_i = node(v_i)      e_ij = edge(w_ij)      g_i = h_i, and then in each round
 *     m_ij = message(e_ij, g_i, g_j)      g_i <- act(update(h_i, sum_j m_ij) + g_i)
 *     s_i(t+1) = s_i + output(h_i, g_i)
 * The residual is added before the activation of update's last layer. What the objects share (a pusher, say) is known and
 * linear: q(t+1) = A q + B u + c. A layer is the same network for every object and in every round, so that one choice of a
 * neuron - ReLU, identity, zero - is one for all its copies.
 *
 * v_i and w_ij are differences of two numbers of x = [y, u], or single ones (esp_pick): a position is only ever seen from
 * another object or from a point that the layout names, so the model does not know where the origin is. It does not know
 * the objects apart either: numbered otherwise, they move the same.
 *
 * Immutable once made. How it becomes a program for n objects: graph_lower.c. */
#ifndef ESP_NET_GRAPH_H
#define ESP_NET_GRAPH_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "net/net.h"

#define ESP_MAX_OBJECTS     64
#define ESP_MAX_OBJECT_SIZE 64
#define ESP_MAX_DIMENSIONS  4
#define ESP_MAX_POINTS      16
#define ESP_MAX_ROUNDS      16
#define ESP_MAX_FEATURES    ESP_MAX_WIDTH /* of an object or an edge */

/* A point that objects are seen from: columns of the shared numbers or of u, one per dimension of a position. */
typedef struct esp_point {
    bool on_u;
    int index[ESP_MAX_DIMENSIONS];
} esp_point;

/* What the columns of y and u are. y has `size` numbers for each object, one object behind the other from column `first`; the
 * other columns are shared. There are n_shared of them whatever the number of objects: `first` before and the rest behind. */
typedef struct esp_graph_layout {
    int objects; /* that it was trained with; others may be more or fewer */
    int first, size;
    int n_shared, nu;
    int n_position; /* dimensions of a position; 0: objects have none */
    int position[ESP_MAX_DIMENSIONS]; /* its columns within an object */
    int n_points;
    esp_point points[ESP_MAX_POINTS];
    double radius; /* objects nearer than this have edges; INFINITY: all have */
    int rounds;
} esp_graph_layout;

typedef enum esp_block { ESP_NODE, ESP_EDGE, ESP_MESSAGE, ESP_UPDATE, ESP_OUTPUT, ESP_BLOCKS } esp_block;
extern const char *const esp_block_names[]; /* "node", ..., NULL */

typedef struct esp_graph {
    esp_graph_layout layout;
    esp_net *block[ESP_BLOCKS];
    double *a, *b, *c; /* n_shared x n_shared, n_shared x nu, n_shared */
} esp_graph;

/* Checks the layout's own numbers. Errors: INVALID, naming the field as "objects/size". */
ESP_MUST_CHECK esp_code esp_graph_layout_check(const esp_graph_layout *layout, esp_error *reterr);
/* Takes the blocks (freed on failure too), copies a, b and c. Every size and number is checked. Errors: INVALID, NOMEM. */
ESP_MUST_CHECK esp_code esp_graph_create(const esp_graph_layout *layout, esp_net *const blocks[ESP_BLOCKS], const double *a, const double *b,
                                         const double *c, esp_graph **ret_graph, esp_error *reterr);
ESP_MUST_CHECK esp_code esp_graph_copy(const esp_graph *graph, esp_graph **ret_graph, esp_error *reterr);
void esp_graph_free(esp_graph *graph);

/* ---- the layout with n objects ---- */

static inline int esp_graph_ny(const esp_graph_layout *layout, int n) {
    return layout->n_shared + n * layout->size;
}
/* Objects of a y of this width; 0 when there is no such number. */
int esp_graph_objects(const esp_graph_layout *layout, int ny);
/* The column of y that holds number k of the shared ones. */
static inline int esp_graph_shared(const esp_graph_layout *layout, int n, int k) {
    return k < layout->first ? k : k + n * layout->size;
}

/* i <- j: object i hears of j. */
typedef struct esp_edge {
    int to, from;
} esp_edge;

/* The edges of n objects at y, in the order of (to, from); all when y is NULL. ret has room for n (n - 1). */
int esp_graph_edges(const esp_graph_layout *layout, int n, const double *y, esp_edge *ret);

/* The same for all y of a box. Errors: UNPROCESSABLE when two objects are near in part of it only. */
ESP_MUST_CHECK esp_code esp_graph_edges_box(const esp_graph_layout *layout, int n, const double *lower, const double *upper, esp_edge *ret,
                                            int *ret_n, esp_error *reterr);

/* A feature: x[plus], less x[minus] unless that is -1. */
typedef struct esp_pick {
    int plus, minus;
} esp_pick;

/* v: what is not a position; the position from each point; shared numbers and inputs that are no point's. */
int esp_graph_node_inputs(const esp_graph_layout *layout);
void esp_graph_node_picks(const esp_graph_layout *layout, int n, int i, esp_pick *ret);
/* w of an edge: where the sender is from the receiver; what is not a position of the receiver, and of the sender. */
int esp_graph_edge_inputs(const esp_graph_layout *layout);
void esp_graph_edge_picks(const esp_graph_layout *layout, int n, esp_edge edge, esp_pick *ret);

/* ---- the network ---- */

/* Neurons that are ReLU: of all copies of n objects with so many edges. */
int64_t esp_graph_relus(const esp_graph *graph, int n, int n_edges);
/* The same, copies counted once: what a ladder decides about. */
int esp_graph_neurons(const esp_graph *graph);
int64_t esp_graph_parameters(const esp_graph *graph);
int64_t esp_graph_nonzero(const esp_graph *graph);

/* y(t+1) of x = [y, u], block by block in double: the reference that the program is checked against.
 * work has room for esp_graph_work doubles. */
size_t esp_graph_work(const esp_graph *graph, int n, int n_edges);
void esp_graph_forward(const esp_graph *graph, int n, const esp_edge *edges, int n_edges, const double *x, double *ret_y, double *work);

/* ---- as bytes and as JSON (schema/formats/model.md) ---- */

void esp_graph_put(const esp_graph *graph, esp_buf *out);
/* What esp_graph_put wrote. Errors: CORRUPT, NOMEM. */
ESP_MUST_CHECK esp_code esp_graph_take(esp_cursor *cursor, esp_graph **ret_graph, esp_error *reterr);

extern const char *const esp_graph_layout_fields[]; /* "objects", "points", "radius", "rounds", NULL */
/* The layout of a spec's or a model's object; ny and nu are given, ny that of `objects/count`. */
ESP_MUST_CHECK esp_code esp_graph_layout_parse(const esp_reader *reader, int ny, int nu, esp_graph_layout *ret_layout, esp_error *reterr);
/* Its members, into the open object. */
void esp_graph_layout_format(const esp_graph_layout *layout, esp_jsonw *w);
/* What a list says of a graph network, its ReLUs counted per object and per edge. */
void esp_graph_format_summary(const esp_graph *graph, const char *key, esp_jsonw *w);

#endif
