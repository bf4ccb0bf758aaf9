/* SPDX-License-Identifier: Apache-2.0
 * The relay of traffic.h: a process that takes connections, and one for each of them. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "support/traffic.h"
#include "support/wire.h"

/* From one side to the other, and into the record; false at the end of the first. */
static bool pass(int from, int to, esp_buf *record) {
    char bytes[1 << 16];
    ssize_t n = recv(from, bytes, sizeof bytes, 0);
    for (ssize_t done = 0; done < n;) {
        ssize_t sent = send(to, bytes + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (sent <= 0) return false;
        done += sent;
    }
    if (n > 0) esp_buf_put(record, bytes, (size_t)n);
    return n > 0;
}

/* Until the daemon has ended the connection; a client that has gone is told on. */
static void carry(int client, int daemon, esp_buf *sent, esp_buf *got) {
    struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = daemon, .events = POLLIN}};
    for (bool open = true; open && poll(fds, 2, -1) > 0;) {
        if (fds[0].revents && !pass(client, daemon, sent)) {
            shutdown(daemon, SHUT_WR);
            fds[0].fd = -1;
        }
        if (fds[1].revents) open = pass(daemon, client, got);
    }
}

static void serve(int client, int port, const char *complaints) {
    esp_buf sent = {0}, got = {0};
    char why[600] = "", line[1400];
    int daemon = wire_dial(port);
    if (daemon >= 0) carry(client, daemon, &sent, &got);
    close(client);
    if (!traffic_check(sent.data, sent.len, got.data, got.len, why, sizeof why)) {
        int n = snprintf(line, sizeof line, "%.100s -> %.300s: %s\n", esp_buf_text(&sent), esp_buf_text(&got), why);
        int fd = open(complaints, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, line, (size_t)n) != n) abort();
    }
    _exit(0);
}

static void relay_main(const traffic_relay *relay, int port) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int client; (client = accept(relay->listener, NULL, NULL)) >= 0; close(client)) {
        if (fork() == 0) serve(client, port, relay->complaints);
    }
    while (wait(NULL) > 0) continue;
    _exit(0);
}

void traffic_relay_start(traffic_relay *relay, const test_daemon *daemon) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    relay->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(relay->listener, (struct sockaddr *)&address, len) || listen(relay->listener, 64) ||
        getsockname(relay->listener, (struct sockaddr *)&address, &len))
        abort();
    (void)snprintf(relay->base, sizeof relay->base, "http://127.0.0.1:%d", ntohs(address.sin_port));
    (void)snprintf(relay->complaints, sizeof relay->complaints, "%s/complaints", daemon->dir);
    fflush(NULL);
    relay->pid = fork();
    if (relay->pid < 0) abort();
    if (relay->pid == 0) relay_main(relay, daemon->port);
}

int traffic_relay_finish(traffic_relay *relay, int failed) {
    char line[1400];
    shutdown(relay->listener, SHUT_RD); /* its accept fails, and it waits for what is under way */
    waitpid(relay->pid, NULL, 0);
    close(relay->listener);
    FILE *file = fopen(relay->complaints, "r");
    if (!file) return failed;
    while (fgets(line, sizeof line, file)) fputs(line, stderr);
    fclose(file);
    return failed + 1;
}
