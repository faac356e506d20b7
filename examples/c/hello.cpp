/*
 * hello.cpp - hello.c in C++, word by word.
 *
 *     hello_cpp [MODEL]
 */
#include <cstdlib>
#include <iostream>

#include "bitnet.hpp"

int main(int argc, char **argv)
try {
    bitnet::Model model(argc > 1 ? argv[1] : BITNET_BUNDLED_MODEL);

    /* The most likely words, so that it is the same story every time. */
    bitnet::Settings settings;
    settings.do_sample = 0;
    settings.repetition_penalty = 1.0f;
    settings.max_new_tokens = 80;

    for (const std::string &piece : model.stream("Once upon a time", settings))
        std::cout << piece << std::flush;
    std::cout << '\n';
    return EXIT_SUCCESS;
} catch (const bitnet::Error &error) {
    std::cerr << "hello: " << error.what() << '\n';
    return EXIT_FAILURE;
}
