/* The host's signals stay the host's: handlers, masks, and SIGINT during a run. Argument: a
 * model. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "check.h"

enum { LAST = 31 };

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    interrupted = number;
}

static void remember(struct sigaction actions[LAST + 1])
{
    for (int number = 1; number <= LAST; number++)
        if (sigaction(number, NULL, &actions[number]) != 0)
            memset(&actions[number], 0, sizeof actions[number]);
}

static void *send(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++) {
        usleep(3000);
        kill(getpid(), SIGINT);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct sigaction mine = {0}, before[LAST + 1], after[LAST + 1];
    sigset_t mask_before, mask_after;
    char output[256], again[256];
    bitnet_inference_config_t config = BITNET_INFERENCE_CONFIG_INIT;
    pthread_t sender;
    CHECK(argc == 2);
    mine.sa_handler = interrupt;
    CHECK(sigaction(SIGINT, &mine, NULL) == 0);
    sigemptyset(&mask_before);
    sigaddset(&mask_before, SIGUSR2);
    CHECK(pthread_sigmask(SIG_SETMASK, &mask_before, NULL) == 0);
    remember(before);

    config.do_sample = 0;
    config.max_new_tokens = 100;
    int model = bitnet_model_load(argv[1]);
    CHECK(model >= 0);
    int length = bitnet_inference_with_config(model, "Once", &config, output, sizeof output);
    CHECK(length > 0);
    CHECK(pthread_create(&sender, NULL, send, NULL) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(bitnet_inference_with_config(model, "Once", &config, again, sizeof again) == length);
        CHECK(strcmp(output, again) == 0);
    }
    CHECK(pthread_join(sender, NULL) == 0);
    CHECK(interrupted == SIGINT);
    CHECK(bitnet_model_free(model) == BITNET_SUCCESS);
    CHECK(bitnet_cleanup() == BITNET_SUCCESS);

    remember(after);
    for (int number = 1; number <= LAST; number++)
        CHECK(before[number].sa_handler == after[number].sa_handler);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask_after) == 0);
    CHECK(sigismember(&mask_after, SIGUSR2) == 1 && sigismember(&mask_after, SIGINT) == 0);
    return 0;
}
