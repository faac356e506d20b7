/*
 * server.c - a model on a TCP port of this machine.
 *
 *     server [MODEL [PORT]]            port 0 takes any that is free
 *     echo "Once upon a time" | nc 127.0.0.1 PORT
 *
 * A connection sends one line, the prompt, and gets the text that continues it, as it is made;
 * then the server closes it. An answer that begins with "error: " is one. Each connection has a
 * thread, and the model runs those that are there at the same time together.
 */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "bitnet.h"

#define PROMPT_SIZE 4096 /* bytes, with newline */
#define MAX_CONNECTIONS 32
#define TIMEOUT_S 30 /* for a client that does not send, or does not read */
#define DEFAULT_PORT 8077

static int model;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int connections;

/* Returns 0, or -1 when the client is gone. */
static int send_all(int client, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(client, data, length, 0);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        data += sent;
        length -= (size_t)sent;
    }
    return 0;
}

static void send_error(int client, const char *text)
{
    char line[512];
    int length = snprintf(line, sizeof line, "error: %s\n", text);
    send_all(client, line, length < (int)sizeof line ? (size_t)length : sizeof line - 1);
}

/* Reads up to a newline, which is taken off. Returns NULL, or what is wrong. */
static const char *read_prompt(int client, char prompt[PROMPT_SIZE])
{
    size_t length = 0;
    while (length < PROMPT_SIZE) {
        ssize_t got = recv(client, prompt + length, PROMPT_SIZE - length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return "no prompt: expected a line";
        char *end = memchr(prompt + length, '\n', (size_t)got);
        if (end != NULL) {
            *end = '\0';
            return strlen(prompt) == (size_t)(end - prompt) ? NULL : "the prompt has a NUL in it";
        }
        length += (size_t)got;
    }
    return "the prompt is too long";
}

/* Closes the connection. Bytes that nobody has read would make the system drop what was sent. */
static void hang_up(int client)
{
    char rest[1024];
    shutdown(client, SHUT_WR);
    for (int i = 0; i < 64 && recv(client, rest, sizeof rest, 0) > 0; i++)
        ;
    close(client);
}

static void answer(int client, const char *prompt)
{
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    bitnet_stream_config_t stream_config = BITNET_STREAM_CONFIG_INIT;
    config.do_sample = 0;
    config.repetition_penalty = 1.0f;
    config.max_new_tokens = 80;
    stream_config.timeout_ms = 0; /* many prompts at once may take their time */

    int stream = bitnet_start_streaming(model, prompt, &config, &stream_config);
    if (stream < 0) {
        send_error(client, bitnet_get_last_error());
        return;
    }
    char piece[1024];
    int n;
    while ((n = bitnet_stream_next_token(stream, piece, sizeof piece)) > 0)
        if (send_all(client, piece, (size_t)n) != 0)
            break; /* nobody reads; stopping the stream ends the work */
    if (n < 0)
        send_error(client, bitnet_get_last_error());
    bitnet_stop_streaming(stream);
}

static void *serve(void *argument)
{
    int client = *(int *)argument;
    free(argument);

    struct timeval timeout = {TIMEOUT_S, 0};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);

    char prompt[PROMPT_SIZE];
    const char *wrong = read_prompt(client, prompt);
    if (wrong != NULL)
        send_error(client, wrong);
    else
        answer(client, prompt);
    hang_up(client);

    pthread_mutex_lock(&lock);
    connections--;
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Gives the client a thread. Returns 0, or -1 when there is none to be had. */
static int hand_over(int client)
{
    pthread_mutex_lock(&lock);
    int room = connections < MAX_CONNECTIONS;
    connections += room;
    pthread_mutex_unlock(&lock);
    if (!room)
        return -1;

    pthread_t thread;
    int *argument = malloc(sizeof *argument);
    if (argument != NULL) {
        *argument = client;
        if (pthread_create(&thread, NULL, serve, argument) == 0) {
            pthread_detach(thread);
            return 0;
        }
        free(argument);
    }
    pthread_mutex_lock(&lock);
    connections--;
    pthread_mutex_unlock(&lock);
    return -1;
}

/* Listens to this machine alone: prompts are not encrypted and nobody is asked who they are. */
static int listen_on(uint16_t port)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror("server: cannot listen");
        return -1;
    }
    printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv)
{
    char *end = "";
    unsigned long port = argc > 2 ? strtoul(argv[2], &end, 10) : DEFAULT_PORT;
    if (*end != '\0' || port > 65535) {
        fprintf(stderr, "server: not a port: %s\n", argv[2]);
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN); /* send() says it too */

    model = bitnet_model_load(argc > 1 ? argv[1] : BITNET_BUNDLED_MODEL);
    if (model < 0) {
        fprintf(stderr, "server: cannot load the model: %s\n", bitnet_get_last_error());
        return EXIT_FAILURE;
    }
    int listener = listen_on((uint16_t)port);
    if (listener < 0)
        return EXIT_FAILURE;

    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            perror("server: cannot accept");
            return EXIT_FAILURE;
        }
        if (hand_over(client) != 0) {
            send_error(client, "too many connections");
            close(client);
        }
    }
}
