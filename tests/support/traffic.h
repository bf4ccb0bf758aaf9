/* SPDX-License-Identifier: Apache-2.0
 * Exchanges as bytes on a connection, whoever sent them: a raw socket, curl in a recipe, the C client. Found in what went to and fro, and
 * held against schema/api/openapi.json like those of http.h. */
#ifndef ESP_TESTS_TRAFFIC_H
#define ESP_TESTS_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "support/daemon.h"

/* All that was sent on a connection and all that came back. Every complete reply must be what is documented for its request; one to bytes
 * that are no request, a problem, or libmicrohttpd's own page of an error. A reply cut short is passed over. */
bool traffic_check(const char *sent, size_t sent_len, const char *got, size_t got_len, char *why, size_t size);

/* A relay between clients and a daemon. It checks each connection when that has ended, in a process of its own. */
typedef struct traffic_relay {
    char base[64]; /* http://127.0.0.1:PORT */
    char complaints[300]; /* name of a file */
    int listener;
    pid_t pid;
} traffic_relay;

void traffic_relay_start(traffic_relay *relay, const test_daemon *daemon);
/* When its connections have ended: says what did not conform, and gives one failure more than `failed` if something did not. */
int traffic_relay_finish(traffic_relay *relay, int failed);

#endif
