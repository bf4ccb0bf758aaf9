/* SPDX-License-Identifier: Apache-2.0
 * Lists that more than one endpoint group shows. */
#ifndef ESP_SERVER_LISTS_H
#define ESP_SERVER_LISTS_H

#include "list.h"

extern const esp_list esp_list_models; /* api_models.c; rows "m" */
extern const esp_list esp_list_bounds; /* api_bounds.c; rows "c" */

#endif
