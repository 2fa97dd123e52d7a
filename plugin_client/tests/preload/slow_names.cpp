// A name service that does not answer: preloaded, it says so after two seconds.
#include <netdb.h>
#include <unistd.h>

extern "C" int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo**) {
    sleep(2);
    return EAI_AGAIN;
}
