/* SPDX-License-Identifier: Apache-2.0
 * The shelf of a tableau: copies of it under other bases, the least used making room. Part of tableau.h, whose functions
 * are the only ones that call these. */
#ifndef ESP_PLAN_SHELF_H
#define ESP_PLAN_SHELF_H

#include "plan/tableau.h"

/* NULL when memory is out. Copies are allocated as they come; fewer of them when memory is short. */
esp_shelf *esp_shelf_create(const esp_tableau *tableau, size_t bytes);
void esp_shelf_free(esp_shelf *shelf);
/* A copy of the tableau, which has just been made, in the place of the one that was not used for longest. */
void esp_shelf_put(esp_tableau *tableau);
/* The copy for the basis in `status` and the LP's present entries into the tableau; false when there is none that holds. */
bool esp_shelf_take(esp_tableau *tableau);

#endif
