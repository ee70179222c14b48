/* The floor under every reader: epoll, recvmsg with the kernel's stamp, and finding the events.
 *
 * Arguments: port, streams, tokens of each, the beginning of the prompts. It says how many seconds
 * it took and how many of the processor, then on a line for each stream the stamps of its events,
 * in nanoseconds of the monotonic clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 1024

static long long in_ns(struct timespec at) { return at.tv_sec * 1000000000LL + at.tv_nsec; }

static long long now_ns(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return in_ns(at);
}

static int ask(const char *port, const char *prompt, int number, const char *tokens) {
    char body[256], request[512];
    int size = snprintf(body, sizeof body,
                        "{\"inputs\":\"%s %d\",\"parameters\":{\"max_new_tokens\":%s}}",
                        prompt, number, tokens);
    size = snprintf(request, sizeof request,
                    "POST /generate_stream HTTP/1.1\r\ncontent-length: %d\r\n\r\n%s", size, body);
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int sock = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(sock, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    if (connect(sock, (struct sockaddr *)&server, sizeof server) || write(sock, request, size) != size)
        exit(1);
    return sock;
}

/* Returns when the data of one read arrived, on the wall clock, and its size; 0 at the end. */
static ssize_t receive(int sock, char *data, size_t room, long long *at_ns) {
    char ancillary[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec into = {data, room};
    struct msghdr message = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = ancillary,
                             .msg_controllen = sizeof ancillary};
    ssize_t size = recvmsg(sock, &message, MSG_DONTWAIT);
    struct cmsghdr *stamp = CMSG_FIRSTHDR(&message);
    if (size > 0 && !stamp)
        exit(2);
    if (size > 0)
        *at_ns = in_ns(*(struct timespec *)CMSG_DATA(stamp));
    return size;
}

int main(int count, char **given) {
    if (count != 5)
        return 64;
    int streams = atoi(given[2]), tokens = atoi(given[3]), open = streams;
    long long began_ns = now_ns(CLOCK_MONOTONIC);
    long long offset_ns = now_ns(CLOCK_REALTIME) - now_ns(CLOCK_MONOTONIC), at_ns = 0;
    long long *stamps = calloc((size_t)streams * tokens, sizeof *stamps);
    int *seen = calloc(streams, sizeof *seen), *socks = calloc(streams, sizeof *socks);
    int epoll = epoll_create1(0);
    for (int i = 0; i < streams; i++) {
        socks[i] = ask(given[1], given[4], i, given[3]);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, socks[i], &event);
    }
    while (open > 0) {
        struct epoll_event ready[BATCH];
        int found = epoll_wait(epoll, ready, BATCH, -1);
        for (int k = 0; k < found; k++) {
            static char data[1 << 16];
            int i = ready[k].data.u32;
            ssize_t size = receive(socks[i], data, sizeof data, &at_ns);
            char *next = data, *end = data + (size > 0 ? size : 0);
            while (seen[i] < tokens && (next = memmem(next, end - next, "\n\n", 2))) {
                stamps[(size_t)i * tokens + seen[i]++] = at_ns - offset_ns;
                next += 2;
            }
            if (size <= 0 || seen[i] == tokens) {
                close(socks[i]);
                open--;
            }
        }
    }
    printf("%.9f %.9f\n", (now_ns(CLOCK_MONOTONIC) - began_ns) / 1e9,
           now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e9);
    for (int i = 0; i < streams; i++, puts(""))
        for (int k = 0; k < seen[i]; k++)
            printf("%lld ", stamps[(size_t)i * tokens + k]);
    return 0;
}
