// Runs the tests and closes with one line: "N passed, N failed, N skipped".
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "data/h5.h"
#include "tests/support.h"

namespace {

int passed = 0, failed = 0, skipped = 0;
bool current_skipped = false;
std::string current_name;
std::vector<std::string> skip_lines;

struct Counter : doctest::IReporter {
    explicit Counter(const doctest::ContextOptions&) {}
    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats&) override {}
    void test_case_start(const doctest::TestCaseData& test) override {
        current_skipped = false;
        current_name = test.m_name;
    }
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_end(const doctest::CurrentTestCaseStats& statistics) override {
        if (!statistics.testCaseSuccess)
            ++failed;
        else if (current_skipped)
            ++skipped;
        else
            ++passed;
    }
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData&) override {}
    void log_message(const doctest::MessageData&) override {}
    void test_case_skipped(const doctest::TestCaseData&) override {}
};

}  // namespace

REGISTER_LISTENER("counter", 1, Counter);

void cover::test::skip(const std::string& reason) {
    current_skipped = true;
    skip_lines.push_back("skipped: " + current_name + ": " + reason);
}

int main(int argc, char** argv) {
    if (const int code = cover::run_child_if_asked(argc, argv); code >= 0) return code;
    doctest::Context context(argc, argv);
    const int result = context.run();
    if (context.shouldExit()) return result;
    for (const std::string& line : skip_lines) std::printf("%s\n", line.c_str());
    std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return passed + failed == 0 ? 1 : result;
}
