/* SPDX-License-Identifier: Apache-2.0
 * The sorting world: some discs and a small round pusher on a plane, in Chipmunk2D. Physics only: no policy, no network.
 *
 * The set-up follows the sorting of the sparse-dynamics paper and its follow-up: discs of radius 15 px, one long push an action, which
 * sets the pusher down at (u0, u1) and moves it by (u2, u3) within a second, then lifts it. The world is quasi-static: whatever still moves
 * is stopped, so the discs' centres are the whole state. 100 px = 1. One world, one thread. Same calls, same bits. */
#ifndef ESP_SORTING_SIM_H
#define ESP_SORTING_SIM_H

#include <stdbool.h>

#define ESP_SORT_DISCS_MAX 8
#define ESP_SORT_NU        4
#define ESP_SORT_U_MAX     1.0
#define ESP_SORT_RADIUS    0.15
#define ESP_SORT_PUSHER    0.05 /* its radius */

typedef struct esp_sort_world esp_sort_world;

/* Discs at rest at centres (n x 2); NULL without memory. */
esp_sort_world *esp_sort_create(int n, const double *centres);
void esp_sort_free(esp_sort_world *world);
/* One push, each component clipped to +-ESP_SORT_U_MAX. True when it touched a disc. */
bool esp_sort_push(esp_sort_world *world, const double u[ESP_SORT_NU]);
void esp_sort_observe(const esp_sort_world *world, double *ret_y); /* n x 2 */

#endif
