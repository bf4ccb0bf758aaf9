/* SPDX-License-Identifier: Apache-2.0
 * Pictures as SVG: shapes, and axes for a plot. Writes as it is called; no scene is kept.
 *
 * Coordinates of shapes are the picture's (y down); esp_plot maps data to them, linear or logarithmic. Colours are CSS. */
#ifndef ESP_ROBOTS_SVG_H
#define ESP_ROBOTS_SVG_H

#include <stdbool.h>
#include <stdio.h>

typedef struct esp_svg {
    FILE *out;
    int clips;
} esp_svg;

/* How a shape is drawn; NULL or 0 fields fall back on nothing drawn, width 1, opaque, solid. */
typedef struct esp_style {
    const char *fill, *stroke;
    double width, opacity;
    const char *dash; /* "4 3", or NULL */
} esp_style;

bool esp_svg_open(const char *path, double width, double height, esp_svg *ret_svg);
bool esp_svg_close(esp_svg *svg); /* false when any write failed */

/* Nothing outside the rectangle is drawn until the end of it; one at a time. */
void esp_svg_clip(esp_svg *svg, double x, double y, double width, double height);
void esp_svg_clip_end(esp_svg *svg);
void esp_svg_line(esp_svg *svg, double x0, double y0, double x1, double y1, esp_style style);
void esp_svg_rect(esp_svg *svg, double x, double y, double width, double height, esp_style style);
void esp_svg_circle(esp_svg *svg, double x, double y, double radius, esp_style style);
/* n points x0 y0 x1 y1 ..; closed: a polygon. */
void esp_svg_path(esp_svg *svg, const double *points, int n, bool closed, esp_style style);
/* anchor: "start", "middle" or "end"; the text is escaped. */
void esp_svg_text(esp_svg *svg, double x, double y, double size, const char *anchor, const char *colour, const char *format, ...)
    __attribute__((format(printf, 7, 8)));
/* The same, bold. */
void esp_svg_title(esp_svg *svg, double x, double y, double size, const char *text);
/* Turned a quarter to the left, centred. */
void esp_svg_text_up(esp_svg *svg, double x, double y, double size, const char *colour, const char *text);

typedef struct esp_axis {
    double from, to; /* data; from < to, > 0 when logarithmic */
    bool logarithmic;
    double start, length; /* picture; the y axis starts below and has a negative length */
} esp_axis;

double esp_axis_map(const esp_axis *axis, double value);
/* A round step that gives about n ticks. */
double esp_axis_step(const esp_axis *axis, int n);
/* Frame, horizontal grid with labels at a round step, and one vertical tick for each of the given x values. */
void esp_svg_axes(esp_svg *svg, const esp_axis *x, const esp_axis *y, const double *x_ticks, int n_x_ticks);

#endif
