/* SPDX-License-Identifier: Apache-2.0
 * Debian's Chipmunk greets on standard output when it makes its first space; that stream is ours, and may be a file. */
#ifndef ESP_ROBOTS_HUSH_H
#define ESP_ROBOTS_HUSH_H

/* Lets it say so to nobody; once, before any other thread and any world. */
void esp_hush_chipmunk(void);

#endif
