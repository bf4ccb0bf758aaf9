/* SPDX-License-Identifier: Apache-2.0
 * Sessions: the last plan of each robot, kept for the warm start of its next one.
 *
 * A robot replans at every step, so the plan of its next call starts one step later: what is handed out is the kept
 * inputs without the first, the last one repeated. In memory only; a name not used for session_idle_s is forgotten, and
 * the one unused longest goes when there are too many. Any thread; one lock, held for a look-up and a copy. */
#ifndef ESP_SERVER_SESSION_H
#define ESP_SERVER_SESSION_H

#include <stdbool.h>
#include <stddef.h>

typedef struct esp_sessions esp_sessions;

#define ESP_SESSION_NAME_MAX 128

esp_sessions *esp_sessions_create(int idle_s); /* NULL when memory is out */
void esp_sessions_free(esp_sessions *sessions);
/* The kept inputs, one step on, into ret (horizon x nu): cut or its last row repeated to the horizon. false when there
 * is nothing under this name for nu inputs. */
bool esp_sessions_next(esp_sessions *sessions, const char *name, int nu, int horizon, double *ret);
/* Keeps a copy of inputs (horizon x nu). Out of memory, nothing is kept. */
void esp_sessions_keep(esp_sessions *sessions, const char *name, int nu, int horizon, const double *inputs);

#endif
