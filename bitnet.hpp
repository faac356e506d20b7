/*
 * bitnet.hpp - libbitnet for C++17: objects that clean up after themselves, and exceptions.
 *
 *     bitnet::Model model("model.gguf");
 *     for (const std::string &piece : model.stream("Once upon a time"))
 *         std::cout << piece << std::flush;
 *
 * It is all inline and uses bitnet.h and bitnet_ext.h, which say what is meant by a prompt, by
 * settings and by a model. Text is UTF-8. Models may be used by several threads at once; a stream
 * belongs to one thread at a time. For the rest of libbitnet, Model::id() is what C calls a model.
 */
#ifndef BITNET_HPP
#define BITNET_HPP

#include <cstddef>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bitnet_ext.h"

namespace bitnet {

/* What went wrong, in words, and as one of BITNET_ERROR_... */
class Error : public std::runtime_error {
public:
    Error(int code, const std::string &text) : std::runtime_error(text), code_(code) {}
    int code() const noexcept { return code_; }

private:
    int code_;
};

/* How to choose tokens, and when to stop: bitnet_inference_config_t with its defaults, and what
 * bitnet_ext_request_t adds. */
struct Settings : bitnet_inference_config_t {
    Settings() : bitnet_inference_config_t BITNET_INFERENCE_CONFIG_INIT {}

    float min_p = 0.0f;
    std::vector<std::string> stop; /* the text ends before the first of these */
};

/* A message of a conversation. */
struct Message {
    std::string role; /* "system", "user" or "assistant" */
    std::string content;
};

namespace detail {

/* Throws the last error if result is one. */
inline int check(int result)
{
    if (result < 0) {
        const char *text = bitnet_get_last_error();
        throw Error(result, text != nullptr ? text : "unknown error");
    }
    return result;
}

/* C would take a NUL for the end. */
inline void check_text(std::string_view text, const char *name)
{
    if (text.find('\0') != std::string_view::npos)
        throw Error(BITNET_ERROR_INVALID_ARGUMENT,
                    std::string("Invalid argument: ") + name + " has a NUL in it");
}

/* A bitnet_ext_request_t and the memory that it points to. */
class Request {
public:
    Request(std::string_view prompt, const Settings &settings) : Request(settings)
    {
        check_text(prompt, "prompt");
        prompt_ = prompt;
        request_.prompt = prompt_.c_str();
    }

    /* messages must outlive this. */
    Request(const std::vector<Message> &messages, const Settings &settings) : Request(settings)
    {
        for (const Message &message : messages) {
            check_text(message.role, "role");
            check_text(message.content, "content");
            messages_.push_back({message.role.c_str(), message.content.c_str()});
        }
        request_.messages = messages_.data();
        request_.n_messages = messages_.size();
    }

    Request(const Request &) = delete;
    Request &operator=(const Request &) = delete;

    const bitnet_ext_request_t *get() const noexcept { return &request_; }

private:
    explicit Request(const Settings &settings)
    {
        for (const std::string &stop : settings.stop) {
            check_text(stop, "stop");
            stop_.push_back(stop.c_str());
        }
        request_.config = &settings;
        request_.min_p = settings.min_p;
        request_.stop = stop_.data();
        request_.n_stop = stop_.size();
    }

    bitnet_ext_request_t request_ = BITNET_EXT_REQUEST_INIT;
    std::string prompt_;
    std::vector<bitnet_ext_message_t> messages_;
    std::vector<const char *> stop_;
};

/* Runs a request to its end and returns the text in full. */
inline std::string generate(int model, const Request &request)
{
    struct Result {
        int id;
        ~Result() { bitnet_ext_result_free(id); }
    };
    Result result{check(bitnet_ext_generate(model, request.get()))};
    int length = check(bitnet_ext_result_text(result.id, nullptr, 0));
    std::string text(static_cast<std::size_t>(length), '\0');
    check(bitnet_ext_result_text(result.id, text.data(), text.size() + 1));
    return text;
}

} // namespace detail

/* Text in the making: ask next() for it piece by piece, or iterate, once. It may outlive its
 * model. */
class Stream {
public:
    Stream(Stream &&other) noexcept : id_(std::exchange(other.id_, -1)) {}

    Stream &operator=(Stream &&other) noexcept
    {
        std::swap(id_, other.id_);
        return *this;
    }

    ~Stream()
    {
        if (id_ >= 0)
            bitnet_stop_streaming(id_);
    }

    /* Waits for the next piece, one or more whole characters. Nothing at the end. Throws Error. */
    std::optional<std::string> next()
    {
        char piece[1024];
        int length = detail::check(bitnet_stream_next_token(id_, piece, sizeof piece));
        if (length == 0)
            return std::nullopt;
        return std::string(piece, static_cast<std::size_t>(length));
    }

    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = std::string;
        using difference_type = std::ptrdiff_t;
        using pointer = const std::string *;
        using reference = const std::string &;

        iterator() = default; /* the end */
        explicit iterator(Stream &stream) : stream_(&stream) { ++*this; }

        reference operator*() const { return *piece_; }
        pointer operator->() const { return &*piece_; }

        iterator &operator++()
        {
            piece_ = stream_->next();
            return *this;
        }

        void operator++(int) { ++*this; }

        friend bool operator==(const iterator &a, const iterator &b)
        {
            return a.piece_.has_value() == b.piece_.has_value();
        }

        friend bool operator!=(const iterator &a, const iterator &b) { return !(a == b); }

    private:
        Stream *stream_ = nullptr;
        std::optional<std::string> piece_;
    };

    iterator begin() { return iterator(*this); }
    iterator end() { return iterator(); }

private:
    friend class Model;

    Stream(int model, const detail::Request &request)
    {
        bitnet_stream_config_t config = BITNET_STREAM_CONFIG_INIT;
        config.timeout_ms = 0; /* a long prompt may take its time */
        id_ = detail::check(bitnet_ext_start_streaming(model, request.get(), &config));
    }

    int id_ = -1;
};

/* A loaded model, freed with the object. */
class Model {
public:
    /* path: a GGUF file or a Hugging Face folder. Throws Error. */
    explicit Model(std::string_view path)
    {
        if (bitnet_abi_version() != BITNET_ABI_VERSION ||
            bitnet_ext_version() < BITNET_EXT_VERSION)
            throw Error(BITNET_ERROR_UNSUPPORTED_OPERATION,
                        std::string("libbitnet ") + bitnet_version() +
                            " does not fit the headers of this program");
        detail::check_text(path, "path");
        id_ = detail::check(bitnet_model_load(std::string(path).c_str()));
    }

    Model(Model &&other) noexcept : id_(std::exchange(other.id_, -1)) {}

    Model &operator=(Model &&other) noexcept
    {
        std::swap(id_, other.id_);
        return *this;
    }

    ~Model()
    {
        if (id_ >= 0)
            bitnet_model_free(id_);
    }

    int id() const noexcept { return id_; }

    /* Continues a prompt and returns the new text, all of it. Throws Error, as do the others. */
    std::string generate(std::string_view prompt, const Settings &settings = {}) const
    {
        return detail::generate(id_, detail::Request(prompt, settings));
    }

    /* Answers a conversation. */
    std::string chat(const std::vector<Message> &messages, const Settings &settings = {}) const
    {
        return detail::generate(id_, detail::Request(messages, settings));
    }

    /* As generate(), piece by piece. */
    Stream stream(std::string_view prompt, const Settings &settings = {}) const
    {
        return Stream(id_, detail::Request(prompt, settings));
    }

    /* As chat(), piece by piece. */
    Stream stream_chat(const std::vector<Message> &messages, const Settings &settings = {}) const
    {
        return Stream(id_, detail::Request(messages, settings));
    }

private:
    int id_ = -1;
};

} // namespace bitnet

#endif /* BITNET_HPP */
