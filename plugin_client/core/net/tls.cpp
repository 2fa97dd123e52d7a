// TLS by mbedTLS.
#include "tls.h"

#include <arpa/inet.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <utility>

namespace backline::net {

namespace {

const char* protocols[] = {"h2", nullptr};  // which mbedTLS does not change
// Where systems keep the authorities that they trust.
constexpr const char* kSystems[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                    "/etc/ssl/cert.pem"};
constexpr int kReadsPerCall = 64;  // mbedTLS passes over warnings without end: then it is the caller's turn again
constexpr int kAddressOfCertificate = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7;  // RFC 5280: iPAddress

// The bytes of a numeric address; none of a name.
std::string numeric(const std::string& host) {
    char bytes[16];
    for (const auto& [family, size] : {std::pair{AF_INET, 4}, std::pair{AF_INET6, 16}})
        if (inet_pton(family, host.c_str(), bytes) == 1) return {bytes, static_cast<size_t>(size)};
    return "";
}

// mbedTLS itself knows names only.
bool is_for(const mbedtls_x509_crt& certificate, const std::string& address) {
    for (const mbedtls_x509_sequence* name = &certificate.subject_alt_names; name != nullptr; name = name->next)
        if (name->buf.tag == kAddressOfCertificate && name->buf.len == address.size() &&
            std::memcmp(name->buf.p, address.data(), address.size()) == 0)
            return true;
    return false;
}

std::string day(const mbedtls_x509_time& time) {
    char text[40];
    std::snprintf(text, sizeof text, "%04d-%02d-%02d", time.year, time.mon, time.day);
    return text;
}

}  // namespace

struct Tls::State {
    State(int socket, const std::string& server) : fd(socket), host(server), address(numeric(server)) {
        mbedtls_ssl_init(&ssl);
        mbedtls_ssl_config_init(&config);
        mbedtls_x509_crt_init(&authorities);
        mbedtls_entropy_init(&entropy);
        mbedtls_ctr_drbg_init(&random);
    }
    ~State() {
        mbedtls_ssl_free(&ssl);
        mbedtls_ssl_config_free(&config);
        mbedtls_x509_crt_free(&authorities);
        mbedtls_ctr_drbg_free(&random);
        mbedtls_entropy_free(&entropy);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    int set_up(bool verified);
    bool load_authorities(const std::string& file);
    std::string distrust(const std::string& certificate) const;

    // What mbedTLS calls.
    static int on_send(void* user, const unsigned char* bytes, size_t size);
    static int on_receive(void* user, unsigned char* bytes, size_t size);
    static int on_certificate(void* user, mbedtls_x509_crt* certificate, int depth, uint32_t* flags);

    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt authorities;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;

    const int fd;
    const std::string host, address;          // the latter in bytes, where the host is one
    std::string trusted;                      // whose certificates count, for messages
    std::string unusable;                     // why none does
    std::string begins, ends;                 // days from and to which the server's holds
    int result = MBEDTLS_ERR_SSL_WANT_WRITE;  // of the greeting so far
    int error = 0;                            // of the socket
    int reads = 0;                            // of it that may still be made
};

// ---- what mbedTLS calls --------------------------------------------------------------------------------------------

int Tls::State::on_send(void* user, const unsigned char* bytes, size_t size) {
    State& state = *static_cast<State*>(user);
    const ssize_t sent = ::send(state.fd, bytes, size, MSG_NOSIGNAL);
    if (sent >= 0) return static_cast<int>(sent);
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return MBEDTLS_ERR_SSL_WANT_WRITE;
    state.error = errno;
    return MBEDTLS_ERR_NET_SEND_FAILED;
}

int Tls::State::on_receive(void* user, unsigned char* bytes, size_t size) {
    State& state = *static_cast<State*>(user);
    if (state.reads == 0) return MBEDTLS_ERR_SSL_WANT_READ;
    --state.reads;
    const ssize_t count = recv(state.fd, bytes, size, 0);
    if (count >= 0) return static_cast<int>(count);
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return MBEDTLS_ERR_SSL_WANT_READ;
    state.error = errno;
    return MBEDTLS_ERR_NET_RECV_FAILED;
}

int Tls::State::on_certificate(void* user, mbedtls_x509_crt* certificate, int depth, uint32_t* flags) {
    State& state = *static_cast<State*>(user);
    if (depth > 0) return 0;
    state.begins = day(certificate->valid_from);
    state.ends = day(certificate->valid_to);
    if (!state.address.empty() && !is_for(*certificate, state.address)) *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    return 0;
}

// ---- setting up ----------------------------------------------------------------------------------------------------

bool Tls::State::load_authorities(const std::string& file) {
    std::string path = file;
    for (const char* system : kSystems)
        if (path.empty() && access(system, R_OK) == 0) path = system;
    trusted = file.empty() ? "any authority that this system trusts" : "the authority of " + file;
    const int loaded = path.empty() ? -1 : mbedtls_x509_crt_parse_file(&authorities, path.c_str());
    if (loaded >= 0) return true;  // of many, some may be of kinds that mbedTLS has not got
    unusable =
        path.empty() ? "this system has no list of authorities" : path + " cannot be read, or holds no PEM certificate";
    return false;
}

int Tls::State::set_up(bool verified) {
    static std::mutex first;  // mbedTLS fills tables that all contexts share when it first uses them, without a lock
    const std::lock_guard lock(first);
    int problem = mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, nullptr, 0);
    if (problem != 0) return problem;
    problem = mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                          MBEDTLS_SSL_PRESET_DEFAULT);
    if (problem != 0) return problem;
    mbedtls_ssl_conf_rng(&config, mbedtls_ctr_drbg_random, &random);
    mbedtls_ssl_conf_min_version(&config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);  // TLS 1.2
    mbedtls_ssl_conf_authmode(&config, verified ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_ca_chain(&config, &authorities, nullptr);
    mbedtls_ssl_conf_verify(&config, on_certificate, this);
    problem = mbedtls_ssl_conf_alpn_protocols(&config, protocols);
    if (problem == 0) problem = mbedtls_ssl_setup(&ssl, &config);
    // A name is asked for (SNI) and must be the certificate's; a numeric address is looked for in on_certificate().
    if (problem == 0) problem = mbedtls_ssl_set_hostname(&ssl, address.empty() ? host.c_str() : nullptr);
    mbedtls_ssl_set_bio(&ssl, this, on_send, on_receive, nullptr);
    return problem == 0 ? result : problem;
}

// ---- the public side -----------------------------------------------------------------------------------------------

Tls::Tls(int fd, const std::string& host, const Access* access) : state_(std::make_unique<State>(fd, host)) {
    if (access != nullptr && !state_->load_authorities(access->ca))
        state_->result = MBEDTLS_ERR_X509_FILE_IO_ERROR;
    else
        state_->result = state_->set_up(access != nullptr);
}

Tls::~Tls() {
    if (state_->result == 0) mbedtls_ssl_close_notify(&state_->ssl);
}

Tls::Greeting Tls::greet() {
    int& result = state_->result;
    state_->reads = kReadsPerCall;
    if (wants_to_send() || result == MBEDTLS_ERR_SSL_WANT_READ) result = mbedtls_ssl_handshake(&state_->ssl);
    if (wants_to_send() || result == MBEDTLS_ERR_SSL_WANT_READ) return Greeting::under_way;
    const bool http2 = result == 0 && mbedtls_ssl_get_alpn_protocol(&state_->ssl) != nullptr;
    if (result == 0 && !http2) result = MBEDTLS_ERR_SSL_BAD_HS_SERVER_HELLO;
    mbedtls_x509_crt_free(&state_->authorities);  // nobody asks them again, and a system's want half a megabyte
    return result == 0 ? Greeting::done : Greeting::failed;
}

bool Tls::wants_to_send() const {
    return state_->result == MBEDTLS_ERR_SSL_WANT_WRITE;
}

bool Tls::understood() const {
    const int result = state_->result;
    return result != MBEDTLS_ERR_SSL_INVALID_RECORD && result != MBEDTLS_ERR_SSL_CONN_EOF && state_->error == 0;
}

ssize_t Tls::receive(uint8_t* bytes, size_t size) {
    state_->reads = kReadsPerCall;
    const int count = mbedtls_ssl_read(&state_->ssl, bytes, size);
    if (count >= 0) return count;
    if (count == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || count == MBEDTLS_ERR_SSL_CONN_EOF) return 0;
    const bool later = count == MBEDTLS_ERR_SSL_WANT_READ || count == MBEDTLS_ERR_SSL_WANT_WRITE;
    errno = later ? EAGAIN : state_->error != 0 ? state_->error : EPROTO;
    return -1;
}

ssize_t Tls::send(const uint8_t* bytes, size_t size) {
    const int count = mbedtls_ssl_write(&state_->ssl, bytes, size);
    if (count >= 0) return count;
    const bool later = count == MBEDTLS_ERR_SSL_WANT_READ || count == MBEDTLS_ERR_SSL_WANT_WRITE;
    errno = later ? EAGAIN : state_->error != 0 ? state_->error : EPROTO;
    return -1;
}

// ---- in words ------------------------------------------------------------------------------------------------------

std::string Tls::problem(const std::string& server) const {
    const State& state = *state_;
    if (!state.unusable.empty()) return server + " cannot be checked, and nothing was sent: " + state.unusable;
    switch (state.result) {
        case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
            return state.distrust("the certificate of " + server);
        case MBEDTLS_ERR_SSL_INVALID_RECORD:
            return server +
                   " does not speak TLS, and no key was sent: take its entry out of servers.toml if you trust the "
                   "network, or have it started with --tls-cert and --tls-key";
        case MBEDTLS_ERR_SSL_BAD_HS_SERVER_HELLO:
            return server + " speaks TLS, but no gRPC: is it a Backline server?";
        case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        case MBEDTLS_ERR_SSL_CONN_EOF:
        case MBEDTLS_ERR_NET_SEND_FAILED:
        case MBEDTLS_ERR_NET_RECV_FAILED:
            return server + " broke TLS off: it may ask for a client's certificate, which plugins have none of";
        default:
            break;
    }
    char words[160];
    mbedtls_strerror(state.result, words, sizeof words);
    return server + " could not be spoken to by TLS (" + words + ")";
}

std::string Tls::State::distrust(const std::string& certificate) const {
    const uint32_t flags = mbedtls_ssl_get_verify_result(&ssl);
    const std::string sent = ", and nothing was sent: ";
    if (flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED)
        return certificate + " was not signed by " + trusted + sent + "name the CA that its owner gives you as ca";
    if (flags & MBEDTLS_X509_BADCERT_EXPIRED)
        return certificate + " has expired (" + ends + ")" + sent + "its owner must renew it";
    if (flags & MBEDTLS_X509_BADCERT_FUTURE)
        return certificate + " holds from " + begins + " on" + sent + "is this machine's clock right?";
    if (flags & MBEDTLS_X509_BADCERT_CN_MISMATCH)
        return certificate + " is for another name" + sent + "use the address that it was made for";
    char words[200] = "";
    mbedtls_x509_crt_verify_info(words, sizeof words, "", flags);
    return certificate + " is none to trust (" + std::string(words, std::strcspn(words, "\n")) + ")" + sent +
           "its owner must make another";
}

}  // namespace backline::net
