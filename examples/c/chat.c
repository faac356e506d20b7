/*
 * chat.c - a conversation in the terminal.
 *
 *     chat [MODEL [SEED]]
 *
 * Each line is a message; the answer appears as it is made. Ctrl-D ends the conversation. The
 * same SEED gives the same answers to the same messages.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bitnet_ext.h"

#define LINE_SIZE 4096    /* bytes of a message, with newline and NUL */
#define ANSWER_SIZE 65536 /* bytes of an answer; what is longer is not remembered */
#define MAX_MESSAGES 64

struct conversation {
    bitnet_ext_message_t messages[MAX_MESSAGES];
    size_t count;
};

static void forget(struct conversation *talk)
{
    while (talk->count > 0)
        free((char *)talk->messages[--talk->count].content);
}

/* Adds a copy of the message. A full conversation begins anew. Returns 0 when out of memory. */
static int add(struct conversation *talk, const char *role, const char *content)
{
    char *copy = malloc(strlen(content) + 1);
    if (copy == NULL)
        return 0;
    strcpy(copy, content);
    if (talk->count == MAX_MESSAGES)
        forget(talk);
    talk->messages[talk->count].role = role;
    talk->messages[talk->count].content = copy;
    talk->count++;
    return 1;
}

/* Begins the answer. Returns a stream, or an error. */
static int start(int model, const struct conversation *talk, uint64_t seed)
{
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    config.seed = seed;

    bitnet_ext_request_t request = BITNET_EXT_REQUEST_INIT;
    request.messages = talk->messages;
    request.n_messages = talk->count;
    request.config = &config;

    bitnet_stream_config_t stream_config = BITNET_STREAM_CONFIG_INIT;
    stream_config.timeout_ms = 0; /* a long conversation may take its time */
    return bitnet_ext_start_streaming(model, &request, &stream_config);
}

/* Prints the answer and leaves it in `answer` too. */
static void say(int stream, char answer[ANSWER_SIZE])
{
    char piece[1024];
    size_t length = 0;
    int n;
    while ((n = bitnet_stream_next_token(stream, piece, sizeof piece)) > 0) {
        fputs(piece, stdout);
        fflush(stdout);
        if (length + (size_t)n < ANSWER_SIZE) {
            memcpy(answer + length, piece, (size_t)n);
            length += (size_t)n;
        }
    }
    answer[length] = '\0';
    putchar('\n');
    if (n < 0)
        fprintf(stderr, "chat: %s\n", bitnet_get_last_error());
    bitnet_stop_streaming(stream);
}

/* Reads a message. Returns 0 at the end of the input; says so when a line is too long. */
static int read_line(char line[LINE_SIZE])
{
    for (;;) {
        fputs("> ", stdout);
        fflush(stdout);
        if (fgets(line, LINE_SIZE, stdin) == NULL)
            return 0;
        size_t length = strcspn(line, "\n");
        if (line[length] == '\n' || feof(stdin)) {
            line[length] = '\0';
            if (length > 0)
                return 1;
            continue;
        }
        int c;
        while ((c = getchar()) != '\n' && c != EOF)
            ;
        fprintf(stderr, "chat: that is too long, at most %d bytes\n", LINE_SIZE - 2);
    }
}

int main(int argc, char **argv)
{
    static char answer[ANSWER_SIZE];
    static struct conversation talk;
    char line[LINE_SIZE];
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;

    int model = bitnet_model_load(argc > 1 ? argv[1] : BITNET_BUNDLED_MODEL);
    if (model < 0) {
        fprintf(stderr, "chat: cannot load the model: %s\n", bitnet_get_last_error());
        return EXIT_FAILURE;
    }
    while (read_line(line)) {
        if (!add(&talk, "user", line))
            break;
        int stream = start(model, &talk, seed);
        if (stream == BITNET_ERROR_CONTEXT_LENGTH_EXCEEDED && talk.count > 1) {
            puts("(the conversation has become too long and begins anew)");
            forget(&talk);
            if (!add(&talk, "user", line))
                break;
            stream = start(model, &talk, seed);
        }
        if (stream < 0) {
            fprintf(stderr, "chat: %s\n", bitnet_get_last_error());
            forget(&talk);
            continue;
        }
        say(stream, answer);
        if (!add(&talk, "assistant", answer))
            break;
    }
    putchar('\n');
    forget(&talk);
    bitnet_model_free(model);
    return EXIT_SUCCESS;
}
