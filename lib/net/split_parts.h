/* SPDX-License-Identifier: Apache-2.0
 * Inside net/split.h: tiles, and how sources come in groups of them. Nothing outside split*.c includes this. */
#ifndef ESP_NET_SPLIT_PARTS_H
#define ESP_NET_SPLIT_PARTS_H

#include "net/split.h"

#define TILE  16 /* rows of a tile, pairs of sources or points in one of its rows */
#define WORDS (TILE * TILE) /* of a tile */
#define GROUP ESP_SPLIT_GROUP
#define FEW   (2 * (TILE / 3)) /* sources whose pieces fit in one tile */
#define HIGH  0xffff0000u

/* Sources of the group that begins at `first`, or rows of the pass. */
static inline int group_at(int n, int first) {
    return n - first < GROUP ? n - first : GROUP;
}

/* Tiles of weights that a group has for 16 rows. */
static inline int tiles_of(int group) {
    return group <= FEW ? 1 : 2;
}

#endif
