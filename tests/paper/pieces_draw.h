/* SPDX-License-Identifier: Apache-2.0
 * A picture of functions of the plane in panels: bands of colour for the value, lines where a ReLU bends. */
#ifndef ESP_PAPER_PIECES_DRAW_H
#define ESP_PAPER_PIECES_DRAW_H

#include "net/model.h"
#include "paper/pieces.h"
#include "robots/svg.h"

enum { ESP_PIECES_PANELS = 4 }; /* in a row: the truth, three models */

typedef struct esp_pieces_picture {
    esp_svg svg;
} esp_pieces_picture;

bool esp_pieces_picture_open(const char *path, const char *const titles[ESP_PIECES_PANELS], int rows, esp_pieces_picture *ret_picture);
/* Errors: NOMEM, UNPROCESSABLE (a program too large). */
ESP_MUST_CHECK esp_code esp_pieces_picture_row(esp_pieces_picture *picture, int row, const esp_pieces *f, const esp_model *const *models,
                                               esp_error *reterr);
bool esp_pieces_picture_close(esp_pieces_picture *picture);

#endif
