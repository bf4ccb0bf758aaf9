/* SPDX-License-Identifier: Apache-2.0
 * Panels of functions (pieces_draw.h). Equal neighbours of a line are one rectangle, which keeps the files small. */
#include "paper/pieces_draw.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 90, BANDS = 14, SIDE = 180, GAP = 16, LEFT = 78, TOP = 40, LINES_MOST = 16 /* ReLUs whose lines can be told apart */ };

typedef struct field {
    double value[CELLS * CELLS];
    uint64_t signature[CELLS * CELLS];
} field;

/* The middle of cell k; lines of the picture go down, x2 goes up. */
static void place(int k, double x[2]) {
    x[0] = (2.0 * (k % CELLS) + 1) / CELLS - 1;
    x[1] = 1 - (2.0 * (k / CELLS) + 1) / CELLS;
}

static void fill_truth(const esp_pieces *f, field *ret) {
    for (int k = 0; k < CELLS * CELLS; k++) {
        double x[2];
        int piece;
        place(k, x);
        ret->value[k] = esp_pieces_value(f, x, &piece, NULL);
        ret->signature[k] = (uint64_t)piece;
    }
}

static esp_code fill_model(const esp_model *model, field *ret, esp_error *reterr) {
    esp_program *program = NULL;
    esp_code code = esp_program_lower(model, &program, reterr);
    if (code != ESP_OK) return code;
    int n = program->n_r;
    double *p = calloc(2 * (size_t)n + 2, sizeof *p);
    if (!p) code = esp_fail(reterr, ESP_NOMEM, "no memory for a panel");
    for (int k = 0; !code && k < CELLS * CELLS; k++) {
        double x[3] = {0};
        place(k, x + 1);
        esp_program_forward(program, x, &ret->value[k], p, NULL, p + n);
        ret->signature[k] = 0;
        for (int i = 0; i < n && n <= LINES_MOST; i++) ret->signature[k] |= (uint64_t)(p[i] > 0) << i;
    }
    free(p);
    esp_program_free(program);
    return code;
}

/* Blue over white to red. */
static void colour(int band, char ret[8]) {
    double t = (band + 0.5) / BANDS, far = fabs(2 * t - 1), fade = 1 - 0.75 * far;
    int strong = (int)(255 - 40 * far), weak = (int)(255 * fade);
    if (t < 0.5)
        snprintf(ret, 8, "#%02x%02x%02x", weak, (weak + strong) / 2, strong);
    else
        snprintf(ret, 8, "#%02x%02x%02x", strong, (2 * weak + strong) / 3, weak);
}

static int band_of(double value, double low, double high) {
    int band = (int)(BANDS * (value - low) / (high - low));
    return band < 0 ? 0 : band >= BANDS ? BANDS - 1 : band;
}

/* Another region begins to the right of this cell or below it. */
static bool on_a_line(const field *f, int i, int j) {
    int k = i * CELLS + j;
    return (j + 1 < CELLS && f->signature[k] != f->signature[k + 1]) || (i + 1 < CELLS && f->signature[k] != f->signature[k + CELLS]);
}

static void draw_panel(esp_svg *svg, const field *f, double x, double y, double low, double high) {
    const double cell = (double)SIDE / CELLS;
    for (int i = 0; i < CELLS; i++)
        for (int j = 0, end; j < CELLS; j = end) {
            int band = band_of(f->value[i * CELLS + j], low, high);
            char fill[8];
            for (end = j + 1; end < CELLS && band_of(f->value[i * CELLS + end], low, high) == band; end++) {
            }
            colour(band, fill);
            esp_svg_rect(svg, x + j * cell, y + i * cell, (end - j) * cell, cell + 0.2, (esp_style){.fill = fill});
        }
    for (int i = 0; i < CELLS; i++)
        for (int j = 0, end; j < CELLS; j = end) {
            for (end = j; end < CELLS && on_a_line(f, i, end); end++) {
            }
            if (end > j) esp_svg_rect(svg, x + j * cell, y + i * cell, (end - j) * cell, cell, (esp_style){.fill = "#222222"});
            if (end == j) end++;
        }
    esp_svg_rect(svg, x, y, SIDE, SIDE, (esp_style){.stroke = "#333333"});
}

bool esp_pieces_picture_open(const char *path, const char *const titles[ESP_PIECES_PANELS], int rows, esp_pieces_picture *ret_picture) {
    if (!esp_svg_open(path, LEFT + ESP_PIECES_PANELS * (SIDE + GAP), TOP + rows * (SIDE + GAP), &ret_picture->svg)) return false;
    for (int i = 0; i < ESP_PIECES_PANELS; i++)
        esp_svg_text(&ret_picture->svg, LEFT + i * (SIDE + GAP) + SIDE / 2, TOP - 14, 13, "middle", "#333333", "%s", titles[i]);
    return true;
}

esp_code esp_pieces_picture_row(esp_pieces_picture *picture, int row, const esp_pieces *f, const esp_model *const *models, esp_error *reterr) {
    field *now = malloc(sizeof *now);
    if (!now) return esp_fail(reterr, ESP_NOMEM, "no memory for a panel");
    double low = INFINITY, high = -INFINITY, y = TOP + row * (SIDE + GAP);
    esp_code code = ESP_OK;
    fill_truth(f, now);
    for (int k = 0; k < CELLS * CELLS; k++) {
        low = fmin(low, now->value[k]);
        high = fmax(high, now->value[k]);
    }
    esp_svg_text(&picture->svg, LEFT - 10, y + SIDE / 2, 13, "end", "#333333", "%s", f->name);
    for (int i = 0; !code && i < ESP_PIECES_PANELS; i++) {
        if (i) code = fill_model(models[i - 1], now, reterr);
        if (!code) draw_panel(&picture->svg, now, LEFT + i * (SIDE + GAP), y, low, high);
    }
    free(now);
    return code;
}

bool esp_pieces_picture_close(esp_pieces_picture *picture) {
    return esp_svg_close(&picture->svg);
}
