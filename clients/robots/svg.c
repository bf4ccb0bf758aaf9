/* SPDX-License-Identifier: Apache-2.0
 * Pictures as SVG (svg.h). */
#include "robots/svg.h"

#include <math.h>
#include <stdarg.h>

#define INK  "#333333"
#define GRID "#e4e4e4"

bool esp_svg_open(const char *path, double width, double height, esp_svg *ret_svg) {
    FILE *out = fopen(path, "w");
    if (out == NULL) return false;
    *ret_svg = (esp_svg){.out = out};
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\" font-family=\"DejaVu Sans, Arial, "
            "sans-serif\">\n",
            width, height, width, height);
    fprintf(out, "<rect width=\"%g\" height=\"%g\" fill=\"white\"/>\n", width, height);
    return true;
}

bool esp_svg_close(esp_svg *svg) {
    fputs("</svg>\n", svg->out);
    bool good = !ferror(svg->out);
    good = fclose(svg->out) == 0 && good;
    svg->out = NULL;
    return good;
}

static void end_shape(esp_svg *svg, esp_style style) {
    fprintf(svg->out, " fill=\"%s\"", style.fill != NULL ? style.fill : "none");
    if (style.stroke != NULL) fprintf(svg->out, " stroke=\"%s\" stroke-width=\"%g\"", style.stroke, style.width > 0.0 ? style.width : 1.0);
    if (style.stroke != NULL && style.dash != NULL) fprintf(svg->out, " stroke-dasharray=\"%s\"", style.dash);
    if (style.opacity > 0.0) fprintf(svg->out, " opacity=\"%.3g\"", style.opacity);
    fputs("/>\n", svg->out);
}

void esp_svg_clip(esp_svg *svg, double x, double y, double width, double height) {
    int n = ++svg->clips;
    fprintf(svg->out, "<clipPath id=\"c%d\"><rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/></clipPath>\n<g clip-path=\"url(#c%d)\">\n",
            n, x, y, width, height, n);
}

void esp_svg_clip_end(esp_svg *svg) {
    fputs("</g>\n", svg->out);
}

void esp_svg_line(esp_svg *svg, double x0, double y0, double x1, double y1, esp_style style) {
    fprintf(svg->out, "<line x1=\"%.2f\" y1=\"%.2f\" x2=\"%.2f\" y2=\"%.2f\"", x0, y0, x1, y1);
    end_shape(svg, style);
}

void esp_svg_rect(esp_svg *svg, double x, double y, double width, double height, esp_style style) {
    fprintf(svg->out, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"", x, y, width, height);
    end_shape(svg, style);
}

void esp_svg_circle(esp_svg *svg, double x, double y, double radius, esp_style style) {
    fprintf(svg->out, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%.2f\"", x, y, radius);
    end_shape(svg, style);
}

void esp_svg_path(esp_svg *svg, const double *points, int n, bool closed, esp_style style) {
    fprintf(svg->out, "<%s stroke-linejoin=\"round\" points=\"", closed ? "polygon" : "polyline");
    for (int i = 0; i < n; i++) fprintf(svg->out, "%s%.2f,%.2f", i > 0 ? " " : "", points[2 * i], points[2 * i + 1]);
    fputc('"', svg->out);
    end_shape(svg, style);
}

static void put_escaped(FILE *out, const char *text) {
    for (; *text != '\0'; text++) {
        if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '<')
            fputs("&lt;", out);
        else
            fputc(*text, out);
    }
}

void esp_svg_text(esp_svg *svg, double x, double y, double size, const char *anchor, const char *colour, const char *format, ...) {
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(svg->out, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"%g\" text-anchor=\"%s\" fill=\"%s\">", x, y, size, anchor, colour);
    put_escaped(svg->out, text);
    fputs("</text>\n", svg->out);
}

void esp_svg_title(esp_svg *svg, double x, double y, double size, const char *text) {
    fprintf(svg->out, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"%g\" font-weight=\"bold\" fill=\"" INK "\">", x, y, size);
    put_escaped(svg->out, text);
    fputs("</text>\n", svg->out);
}

void esp_svg_text_up(esp_svg *svg, double x, double y, double size, const char *colour, const char *text) {
    fprintf(svg->out, "<text transform=\"translate(%.2f %.2f) rotate(-90)\" font-size=\"%g\" text-anchor=\"middle\" fill=\"%s\">", x, y, size,
            colour);
    put_escaped(svg->out, text);
    fputs("</text>\n", svg->out);
}

double esp_axis_map(const esp_axis *axis, double value) {
    double share = axis->logarithmic ? log(value / axis->from) / log(axis->to / axis->from) : (value - axis->from) / (axis->to - axis->from);
    return axis->start + share * axis->length;
}

double esp_axis_step(const esp_axis *axis, int n) {
    double raw = (axis->to - axis->from) / n, power = pow(10.0, floor(log10(raw))), lead = raw / power;
    return power * (lead < 1.5 ? 1.0 : lead < 3.5 ? 2.0 : lead < 7.5 ? 5.0 : 10.0);
}

void esp_svg_axes(esp_svg *svg, const esp_axis *x, const esp_axis *y, const double *x_ticks, int n_x_ticks) {
    double left = x->start, right = x->start + x->length, step = esp_axis_step(y, 5);
    for (double v = step * ceil(y->from / step); v <= y->to * (1 + 1e-9); v += step) {
        double at = esp_axis_map(y, v);
        esp_svg_line(svg, left, at, right, at, (esp_style){.stroke = GRID});
        esp_svg_text(svg, left - 8, at + 4, 12, "end", INK, "%.6g", fabs(v) < 1e-9 * step ? 0.0 : v);
    }
    for (int i = 0; i < n_x_ticks; i++) {
        double at = esp_axis_map(x, x_ticks[i]);
        esp_svg_line(svg, at, y->start, at, y->start + 5, (esp_style){.stroke = INK});
        esp_svg_text(svg, at, y->start + 19, 12, "middle", INK, "%g", x_ticks[i]);
    }
    esp_svg_line(svg, left, y->start, right, y->start, (esp_style){.stroke = INK});
    esp_svg_line(svg, left, y->start, left, y->start + y->length, (esp_style){.stroke = INK});
}
