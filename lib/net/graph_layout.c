/* SPDX-License-Identifier: Apache-2.0
 * What the columns of a graph network's y and u are: features and edges from it, and its JSON. */
#include <math.h>
#include <string.h>

#include "net/graph.h"

static esp_code check_position(const esp_graph_layout *l, esp_error *reterr) {
    if (l->n_position < 0 || l->n_position > ESP_MAX_DIMENSIONS || l->n_position > l->size)
        return esp_fail_at(reterr, ESP_INVALID, "/objects/position", "an object has at most %d columns of position", ESP_MAX_DIMENSIONS);
    for (int d = 0; d < l->n_position; d++) {
        if (l->position[d] < 0 || l->position[d] >= l->size)
            return esp_fail_at(reterr, ESP_INVALID, "/objects/position", "column %d is none of the object's %d", l->position[d], l->size);
        for (int e = 0; e < d; e++)
            if (l->position[e] == l->position[d])
                return esp_fail_at(reterr, ESP_INVALID, "/objects/position", "column %d stands twice", l->position[d]);
    }
    if (l->n_position == 0 && l->n_points > 0) return esp_fail_at(reterr, ESP_INVALID, "/points", "objects without a position are seen from none");
    if (l->n_position == 0 && isfinite(l->radius)) return esp_fail_at(reterr, ESP_INVALID, "/radius", "objects without a position are near to none");
    return ESP_OK;
}

static esp_code check_points(const esp_graph_layout *l, esp_error *reterr) {
    if (l->n_points < 0 || l->n_points > ESP_MAX_POINTS)
        return esp_fail_at(reterr, ESP_INVALID, "/points", "there are at most %d points", ESP_MAX_POINTS);
    for (int p = 0; p < l->n_points; p++)
        for (int d = 0; d < l->n_position; d++) {
            int index = l->points[p].index[d], n = l->points[p].on_u ? l->nu : l->n_shared;
            if (index < 0 || index >= n) return esp_fail_at(reterr, ESP_INVALID, "/points", "point %d has a column that is not there", p);
        }
    return ESP_OK;
}

esp_code esp_graph_layout_check(const esp_graph_layout *l, esp_error *reterr) {
    if (l->objects < 1 || l->objects > ESP_MAX_OBJECTS)
        return esp_fail_at(reterr, ESP_INVALID, "/objects/count", "there are 1 to %d objects, not %d", ESP_MAX_OBJECTS, l->objects);
    if (l->size < 1 || l->size > ESP_MAX_OBJECT_SIZE)
        return esp_fail_at(reterr, ESP_INVALID, "/objects/size", "an object has 1 to %d numbers, not %d", ESP_MAX_OBJECT_SIZE, l->size);
    if (l->n_shared < 0 || l->n_shared > ESP_MAX_WIDTH || l->nu < 0 || l->nu > ESP_MAX_WIDTH)
        return esp_fail(reterr, ESP_INVALID, "%d shared numbers and %d inputs", l->n_shared, l->nu);
    if (l->first < 0 || l->first > l->n_shared)
        return esp_fail_at(reterr, ESP_INVALID, "/objects/first", "the objects do not begin at column %d", l->first);
    if (!(l->radius > 0)) return esp_fail_at(reterr, ESP_INVALID, "/radius", "must be above 0");
    if (l->rounds < 1 || l->rounds > ESP_MAX_ROUNDS)
        return esp_fail_at(reterr, ESP_INVALID, "/rounds", "there are 1 to %d rounds, not %d", ESP_MAX_ROUNDS, l->rounds);
    esp_code code = check_position(l, reterr);
    if (code == ESP_OK) code = check_points(l, reterr);
    if (code == ESP_OK && esp_graph_node_inputs(l) > ESP_MAX_FEATURES)
        code = esp_fail_at(reterr, ESP_INVALID, "/objects", "an object sees %d numbers; at most %d", esp_graph_node_inputs(l), ESP_MAX_FEATURES);
    if (code == ESP_OK && esp_graph_node_inputs(l) < 1)
        code = esp_fail_at(reterr, ESP_INVALID, "/points", "an object sees nothing: name a point to see it from, or give it more than a position");
    return code;
}

int esp_graph_objects(const esp_graph_layout *l, int ny) {
    int rest = ny - l->n_shared;
    return rest < l->size || rest % l->size || rest / l->size > ESP_MAX_OBJECTS ? 0 : rest / l->size;
}

/* ---- edges and features ---- */

static int object_column(const esp_graph_layout *l, int i, int k) {
    return l->first + i * l->size + k;
}

static bool near(const esp_graph_layout *l, const double *y, int i, int j) {
    double squares = 0;
    if (!y || isinf(l->radius)) return true;
    for (int d = 0; d < l->n_position; d++) {
        double apart = y[object_column(l, i, l->position[d])] - y[object_column(l, j, l->position[d])];
        squares += apart * apart;
    }
    return squares < l->radius * l->radius;
}

int esp_graph_edges(const esp_graph_layout *l, int n, const double *y, esp_edge *ret) {
    int n_edges = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (i != j && near(l, y, i, j)) ret[n_edges++] = (esp_edge){i, j};
    return n_edges;
}

/* Least and largest square of a difference of two intervals, a little wider than it is. */
static void difference(double a_low, double a_high, double b_low, double b_high, double *least, double *most) {
    double low = a_low - b_high, high = a_high - b_low, far = fmax(fabs(low), fabs(high)), close = low > 0 ? low : high < 0 ? -high : 0;
    *least += close * close * (1 - 1e-12);
    *most += far * far * (1 + 1e-12);
}

esp_code esp_graph_edges_box(const esp_graph_layout *l, int n, const double *lower, const double *upper, esp_edge *ret, int *ret_n,
                             esp_error *reterr) {
    int n_edges = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            double least = 0, most = 0;
            for (int d = 0; d < l->n_position; d++) {
                int a = object_column(l, i, l->position[d]), b = object_column(l, j, l->position[d]);
                difference(lower[a], upper[a], lower[b], upper[b], &least, &most);
            }
            bool always = isinf(l->radius) || most < l->radius * l->radius, never = !always && least >= l->radius * l->radius;
            if (i == j || never) continue;
            if (!always)
                return esp_fail(reterr, ESP_UNPROCESSABLE, "objects %d and %d are within the radius in part of the domain only: narrow it", i, j);
            ret[n_edges++] = (esp_edge){i, j};
        }
    *ret_n = n_edges;
    return ESP_OK;
}

static bool is_position(const esp_graph_layout *l, int k) {
    for (int d = 0; d < l->n_position; d++)
        if (l->position[d] == k) return true;
    return false;
}

static bool is_point(const esp_graph_layout *l, bool on_u, int k) {
    for (int p = 0; p < l->n_points; p++)
        for (int d = 0; d < l->n_position; d++)
            if (l->points[p].on_u == on_u && l->points[p].index[d] == k) return true;
    return false;
}

static int count_others(const esp_graph_layout *l, bool on_u) {
    int count = 0, n = on_u ? l->nu : l->n_shared;
    for (int k = 0; k < n; k++) count += !is_point(l, on_u, k);
    return count;
}

int esp_graph_node_inputs(const esp_graph_layout *l) {
    return l->size - l->n_position + l->n_points * l->n_position + count_others(l, false) + count_others(l, true);
}

int esp_graph_edge_inputs(const esp_graph_layout *l) {
    return l->n_position + 2 * (l->size - l->n_position);
}

static esp_pick *pick_rest(const esp_graph_layout *l, int i, esp_pick *ret) {
    for (int k = 0; k < l->size; k++)
        if (!is_position(l, k)) *ret++ = (esp_pick){object_column(l, i, k), -1};
    return ret;
}

void esp_graph_node_picks(const esp_graph_layout *l, int n, int i, esp_pick *ret) {
    int ny = esp_graph_ny(l, n);
    ret = pick_rest(l, i, ret);
    for (int p = 0; p < l->n_points; p++)
        for (int d = 0; d < l->n_position; d++) {
            int index = l->points[p].index[d];
            *ret++ = (esp_pick){object_column(l, i, l->position[d]), l->points[p].on_u ? ny + index : esp_graph_shared(l, n, index)};
        }
    for (int k = 0; k < l->n_shared; k++)
        if (!is_point(l, false, k)) *ret++ = (esp_pick){esp_graph_shared(l, n, k), -1};
    for (int k = 0; k < l->nu; k++)
        if (!is_point(l, true, k)) *ret++ = (esp_pick){ny + k, -1};
}

void esp_graph_edge_picks(const esp_graph_layout *l, int n, esp_edge edge, esp_pick *ret) {
    (void)n;
    for (int d = 0; d < l->n_position; d++)
        *ret++ = (esp_pick){object_column(l, edge.from, l->position[d]), object_column(l, edge.to, l->position[d])};
    ret = pick_rest(l, edge.to, ret);
    (void)pick_rest(l, edge.from, ret);
}

/* ---- JSON ---- */

const char *const esp_graph_layout_fields[] = {"objects", "points", "radius", "rounds", NULL};

static esp_code read_indices(const esp_reader *list, int n, int upper, int *ret, esp_error *reterr) {
    size_t size = 0;
    esp_code code = esp_read_array(list, (size_t)n, (size_t)n, &size, reterr);
    for (int k = 0; code == ESP_OK && k < n; k++) {
        esp_reader element = esp_read_element(list, (size_t)k);
        code = esp_read_int(&element, 0, upper - 1, &ret[k], reterr);
    }
    return code;
}

static esp_code read_objects(const esp_reader *reader, int ny, esp_graph_layout *l, esp_error *reterr) {
    static const char *const fields[] = {"count", "size", "first", "position", NULL};
    esp_reader objects, count, size, first, position;
    size_t n = 0;
    esp_code code = esp_read_required(reader, "objects", &objects, reterr);
    if (code == ESP_OK) code = esp_read_object(&objects, fields, reterr);
    if (code == ESP_OK) code = esp_read_required(&objects, "count", &count, reterr);
    if (code == ESP_OK) code = esp_read_int(&count, 1, ESP_MAX_OBJECTS, &l->objects, reterr);
    if (code == ESP_OK) code = esp_read_required(&objects, "size", &size, reterr);
    if (code == ESP_OK) code = esp_read_int(&size, 1, ESP_MAX_OBJECT_SIZE, &l->size, reterr);
    if (code != ESP_OK) return code;
    if (l->objects * l->size > ny)
        return esp_refuse(&objects, reterr, "%d objects of %d numbers do not fit into %d observed ones", l->objects, l->size, ny);
    l->n_shared = ny - l->objects * l->size;
    first = esp_read_member(&objects, "first");
    code = esp_read_int(&first, 0, l->n_shared, &l->first, reterr);
    position = esp_read_member(&objects, "position");
    if (code == ESP_OK && position.value) code = esp_read_array(&position, 0, ESP_MAX_DIMENSIONS, &n, reterr);
    l->n_position = (int)n;
    return code == ESP_OK && n ? read_indices(&position, (int)n, l->size, l->position, reterr) : code;
}

/* Columns of y as `objects/count` objects have them; those of an object are no point's. */
static esp_code read_point(const esp_reader *reader, int ny, const esp_graph_layout *l, esp_point *ret, esp_error *reterr) {
    static const char *const fields[] = {"on", "index", NULL}, *const places[] = {"y", "u", NULL};
    esp_reader on, index;
    int place = 0, behind = l->first + l->objects * l->size;
    esp_code code = esp_read_object(reader, fields, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "on", &on, reterr);
    if (code == ESP_OK) code = esp_read_choice(&on, places, &place, reterr);
    if (code == ESP_OK) code = esp_read_required(reader, "index", &index, reterr);
    if (code == ESP_OK) code = read_indices(&index, l->n_position, place ? l->nu : ny, ret->index, reterr);
    if (code != ESP_OK) return code;
    ret->on_u = place == 1;
    for (int d = 0; !ret->on_u && d < l->n_position; d++) {
        if (ret->index[d] >= l->first && ret->index[d] < behind) return esp_refuse(&index, reterr, "column %d belongs to an object", ret->index[d]);
        if (ret->index[d] >= behind) ret->index[d] -= l->objects * l->size;
    }
    return ESP_OK;
}

static esp_code read_points(const esp_reader *reader, int ny, esp_graph_layout *l, esp_error *reterr) {
    esp_reader points = esp_read_member(reader, "points");
    size_t n = 0;
    if (!points.value) return ESP_OK;
    esp_code code = esp_read_array(&points, 0, ESP_MAX_POINTS, &n, reterr);
    l->n_points = (int)n;
    for (size_t p = 0; code == ESP_OK && p < n; p++) {
        esp_reader point = esp_read_element(&points, p);
        code = read_point(&point, ny, l, &l->points[p], reterr);
    }
    return code;
}

esp_code esp_graph_layout_parse(const esp_reader *reader, int ny, int nu, esp_graph_layout *ret_layout, esp_error *reterr) {
    esp_graph_layout l = {.nu = nu, .radius = INFINITY, .rounds = 2};
    esp_error why = {0};
    esp_code code = read_objects(reader, ny, &l, reterr);
    if (code == ESP_OK) code = read_points(reader, ny, &l, reterr);
    esp_reader radius = esp_read_member(reader, "radius"), rounds = esp_read_member(reader, "rounds");
    if (code == ESP_OK) code = esp_read_number(&radius, 0, 1e300, &l.radius, reterr);
    if (code == ESP_OK) code = esp_read_int(&rounds, 1, ESP_MAX_ROUNDS, &l.rounds, reterr);
    if (code != ESP_OK) return code;
    code = esp_graph_layout_check(&l, &why);
    if (code != ESP_OK) {
        (void)esp_refuse(reader, reterr, "%s", why.message);
        if (reterr && strlen(reterr->pointer) + strlen(why.pointer) < sizeof reterr->pointer) strcat(reterr->pointer, why.pointer);
        return ESP_INVALID;
    }
    *ret_layout = l;
    return ESP_OK;
}

static void put_indices(esp_jsonw *w, const char *key, const int *values, int n) {
    esp_jsonw_array(w, key);
    for (int k = 0; k < n; k++) esp_jsonw_integer(w, NULL, values[k]);
    esp_jsonw_array_end(w);
}

void esp_graph_layout_format(const esp_graph_layout *l, esp_jsonw *w) {
    esp_jsonw_object(w, "objects");
    esp_jsonw_integer(w, "count", l->objects);
    esp_jsonw_integer(w, "size", l->size);
    esp_jsonw_integer(w, "first", l->first);
    put_indices(w, "position", l->position, l->n_position);
    esp_jsonw_object_end(w);
    esp_jsonw_array(w, "points");
    for (int p = 0; p < l->n_points; p++) {
        int index[ESP_MAX_DIMENSIONS];
        for (int d = 0; d < l->n_position; d++)
            index[d] = l->points[p].on_u ? l->points[p].index[d] : esp_graph_shared(l, l->objects, l->points[p].index[d]);
        esp_jsonw_object(w, NULL);
        esp_jsonw_string(w, "on", l->points[p].on_u ? "u" : "y");
        put_indices(w, "index", index, l->n_position);
        esp_jsonw_object_end(w);
    }
    esp_jsonw_array_end(w);
    if (isfinite(l->radius)) esp_jsonw_number(w, "radius", l->radius);
    esp_jsonw_integer(w, "rounds", l->rounds);
}
