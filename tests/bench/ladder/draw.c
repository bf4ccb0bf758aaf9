/* SPDX-License-Identifier: Apache-2.0
 * Draws the table of clients/curl/policy_to_c.sh: error against sparsity for each pruning method, the proved bound and the largest
 * error that an input is known to reach.      draw LADDER.csv LADDER.svg
 * The true largest error lies between the two. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "robots/svg.h"

enum { METHODS = 4, POINTS = 32 };

static const struct {
    const char *name, *colour;
} methods[METHODS] = {{"magnitude", "#8a8a8a"}, {"obd", "#d2691e"}, {"obs", "#1b7f4d"}, {"sparsegpt", "#6a4fa3"}};

#define INK   "#333333"
#define FAINT "#8a8a8a"

typedef struct curve {
    int n;
    double sparsity[POINTS], bound[POINTS], lower[POINTS];
} curve;

/* A line "method,sparsity,bound,lower,rms"; false when it is none. */
static bool take(const char *line, curve *curves) {
    char name[32];
    double sparsity, bound, lower;
    if (sscanf(line, "%31[a-z],%lf,%lf,%lf", name, &sparsity, &bound, &lower) != 4) return false;
    for (int m = 0; m < METHODS; m++) {
        curve *c = &curves[m];
        if (strcmp(name, methods[m].name) != 0 || c->n == POINTS) continue;
        c->sparsity[c->n] = sparsity;
        c->bound[c->n] = bound;
        c->lower[c->n++] = lower;
        return true;
    }
    return false;
}

static bool read_table(const char *path, curve *curves) {
    char line[256];
    FILE *in = fopen(path, "r");
    if (!in) return false;
    bool good = fgets(line, sizeof line, in) && strncmp(line, "method,", 7) == 0;
    while (good && fgets(line, sizeof line, in)) good = take(line, curves);
    fclose(in);
    return good && curves[0].n > 0;
}

static void draw_line(esp_svg *svg, const curve *c, const double *values, const char *colour, const char *dash, const esp_axis *x,
                      const esp_axis *y) {
    double points[2 * POINTS];
    for (int i = 0; i < c->n; i++) {
        points[2 * i] = esp_axis_map(x, 100 * c->sparsity[i]);
        points[2 * i + 1] = esp_axis_map(y, fmax(values[i], y->from));
    }
    esp_svg_path(svg, points, c->n, false, (esp_style){.stroke = colour, .width = 1.8, .dash = dash});
    for (int i = 0; i < c->n; i++)
        if (dash)
            esp_svg_circle(svg, points[2 * i], points[2 * i + 1], 3, (esp_style){.fill = "white", .stroke = colour, .width = 1.3});
        else
            esp_svg_circle(svg, points[2 * i], points[2 * i + 1], 2.2, (esp_style){.fill = colour});
}

/* Lines at 1, 2 and 5 of each decade. */
static void draw_axes(esp_svg *svg, const esp_axis *x, const esp_axis *y) {
    static const double steps[] = {1, 2, 5};
    double bottom = y->start, right = x->start + x->length;
    for (int k = 0; k < 3 * 12; k++) {
        double value = steps[k % 3] * pow(10, k / 3 - 6), at = esp_axis_map(y, value);
        if (value < y->from || value > y->to) continue;
        esp_svg_line(svg, x->start, at, right, at, (esp_style){.stroke = "#e2e2e2"});
        esp_svg_text(svg, x->start - 8, at + 4, 12, "end", INK, "%g", value);
    }
    for (int percent = 0; percent <= x->to; percent += 10) {
        double at = esp_axis_map(x, percent);
        esp_svg_line(svg, at, bottom, at, bottom + 5, (esp_style){.stroke = INK});
        esp_svg_text(svg, at, bottom + 20, 12, "middle", INK, "%d", percent);
    }
    esp_svg_line(svg, x->start, bottom, right, bottom, (esp_style){.stroke = INK});
    esp_svg_line(svg, x->start, bottom, x->start, bottom + y->length, (esp_style){.stroke = INK});
}

static void draw_legend(esp_svg *svg) {
    double at = 80;
    for (int m = 0; m < METHODS; m++, at += 95) {
        esp_svg_circle(svg, at, 66, 4.5, (esp_style){.fill = methods[m].colour});
        esp_svg_text(svg, at + 10, 70, 12, "start", INK, "%s", methods[m].name);
    }
    esp_svg_line(svg, 480, 66, 504, 66, (esp_style){.stroke = INK, .width = 1.8});
    esp_svg_text(svg, 509, 70, 12, "start", INK, "proved bound");
    esp_svg_line(svg, 606, 66, 630, 66, (esp_style){.stroke = INK, .width = 1.8, .dash = "4 3"});
    esp_svg_text(svg, 635, 70, 12, "start", INK, "an input reaches");
}

static bool draw(const char *path, const curve *curves) {
    esp_axis x = {.from = 0, .to = 95, .start = 80, .length = 620}, y = {.from = INFINITY, .logarithmic = true, .start = 440, .length = -340};
    esp_svg svg;
    for (int m = 0; m < METHODS; m++)
        for (int i = 0; i < curves[m].n; i++) {
            y.to = fmax(y.to, curves[m].bound[i]);
            if (curves[m].lower[i] > 0) y.from = fmin(y.from, curves[m].lower[i]);
        }
    if (!(y.from < y.to)) return false;
    y.from /= 1.3;
    y.to *= 1.3;
    if (!esp_svg_open(path, 740, 500, &svg)) return false;
    esp_svg_title(&svg, 80, 28, 15, "A distilled policy: largest error of its output over the domain");
    esp_svg_text(&svg, 80, 47, 12, "start", FAINT, "each layer loses the same share of its weights; the input range is 2");
    draw_legend(&svg);
    draw_axes(&svg, &x, &y);
    esp_svg_text(&svg, 390, 482, 13, "middle", INK, "weights that are 0, %%");
    esp_svg_text_up(&svg, 24, 270, 13, INK, "largest difference to the dense policy");
    for (int m = 0; m < METHODS; m++) {
        draw_line(&svg, &curves[m], curves[m].bound, methods[m].colour, NULL, &x, &y);
        draw_line(&svg, &curves[m], curves[m].lower, methods[m].colour, "4 3", &x, &y);
    }
    return esp_svg_close(&svg);
}

int main(int argc, char **argv) {
    static curve curves[METHODS];
    if (argc != 3) {
        fputs("draw LADDER.csv LADDER.svg\n", stderr);
        return 2;
    }
    if (!read_table(argv[1], curves)) {
        fprintf(stderr, "%s is no table of policy_to_c.sh\n", argv[1]);
        return 1;
    }
    if (draw(argv[2], curves)) return 0;
    fprintf(stderr, "%s could not be written\n", argv[2]);
    return 1;
}
