/* bitnet.hpp with a tiny model that says the same whatever the prompt, except that a prompt that
 * ends with "!" gets its last word alone.
 *
 *     wrapper MODEL TEXT LAST_WORD */
#include <type_traits>

#include "bitnet.hpp"
#include "check.h"

using bitnet::Error;
using bitnet::Message;
using bitnet::Model;
using bitnet::Settings;
using bitnet::Stream;

template <typename T>
constexpr bool move_only = std::is_nothrow_move_constructible_v<T> &&
                           std::is_nothrow_move_assignable_v<T> &&
                           !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T>;
static_assert(move_only<Model> && move_only<Stream>);

template <typename Call> static void check_throws(int code, std::string_view text, Call call)
{
    try {
        call();
    } catch (const Error &error) {
        if (error.code() == code && std::string_view(error.what()).find(text) == 0)
            return;
        printf("%d: %s\n", error.code(), error.what());
    }
    printf("expected an error: %d: %s\n", code, std::string(text).c_str());
    exit(1);
}

static std::string joined(Stream stream)
{
    std::string text;
    for (const std::string &piece : stream)
        text += piece;
    return text;
}

static void test_texts(const Model &model, const Settings &greedy, const std::string &text,
                       const std::string &last)
{
    CHECK(model.generate("a", greedy) == text);
    CHECK(model.generate(std::string_view("a!b").substr(0, 2), greedy) == last);
    CHECK(joined(model.stream("a", greedy)) == text);
    CHECK(model.chat({{"user", "a"}, {"assistant", "b"}, {"user", "c!"}}, greedy) == last);
    CHECK(joined(model.stream_chat({{"user", "a"}}, greedy)) == text);

    Settings settings = greedy;
    settings.stop = {"absent", last};
    CHECK(model.generate("a", settings) + last == text);
    CHECK(joined(model.stream("a", settings)) + last == text);
}

static void test_streams_end_and_move(const Model &model, const Settings &greedy)
{
    Stream first = model.stream("a", greedy);
    std::optional<std::string> piece = first.next();
    CHECK(piece && !piece->empty());
    Stream second = std::move(first);
    std::vector<std::string> rest(second.begin(), second.end());
    CHECK(!rest.empty() && !second.next());
    check_throws(BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: ", [&] { first.next(); });
}

static void test_errors(Model &model)
{
    Settings wrong;
    wrong.top_p = 2.0f;
    check_throws(BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: top_p must be between",
                 [&] { model.generate("a", wrong); });
    check_throws(BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: top_p must be between",
                 [&] { model.stream("a", wrong); });
    check_throws(BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: prompt has a NUL in it",
                 [&] { model.generate(std::string_view("a\0b", 3)); });
    check_throws(BITNET_ERROR_MODEL_NOT_FOUND, "Model not found: ",
                 [] { Model("no/such/model"); });
}

static void test_models_are_freed(Model model, const Settings &greedy, const std::string &text)
{
    int id = model.id();
    Stream stream = model.stream("a", greedy);
    {
        Model owner = std::move(model);
        CHECK(owner.id() == id && bitnet_model_is_loaded(id) == 1);
    }
    CHECK(bitnet_model_is_loaded(id) == 0);
    CHECK(joined(std::move(stream)) == text); /* it outlives the model */
    check_throws(BITNET_ERROR_INVALID_ARGUMENT, "Invalid argument: model_id must be non-negative",
                 [&] { model.generate("a"); });
}

int main(int, char **argv)
{
    std::string text = argv[2], last = argv[3];
    Settings greedy;
    greedy.do_sample = 0;
    greedy.repetition_penalty = 1.0f;

    Model model(argv[1]);
    test_texts(model, greedy, text, last);
    test_streams_end_and_move(model, greedy);
    test_errors(model);
    test_models_are_freed(std::move(model), greedy, text);
}
