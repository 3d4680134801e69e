// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {TestToken} from "./Tokens.sol";
import {bound, vm} from "./Vm.sol";

/// @notice Claims, pauses, and what leaves otherwise.
contract ClaimingTest is LedgerTest {
    function test_claim_pays_the_difference_to_the_account_whoever_calls() public {
        Payouts memory first = payoutsOf(100, 200, 300);
        uint256 one = activate(first);
        vm.assertEq(ledger.claimable(ALICE, one, 100, proofOf(first, 0)), 100, "claimable before");
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.PayoutClaimed(ALICE, one, ALICE, 100, 100);
        claim(one, first, 0);
        vm.assertEq(ledger.claimable(ALICE, one, 100, proofOf(first, 0)), 0, "claimable after");

        Payouts memory second = payoutsOf(150, 200, 300);
        uint256 two = activate(second);
        vm.prank(ANYONE);
        vm.assertEq(ledger.claim(ALICE, two, 150, proofOf(second, 0)), 50, "the difference");
        vm.assertEq(token.balanceOf(ALICE), 150, "balance of the account");
        vm.assertEq(ledger.claimedBy(ALICE), 150, "claimed by the account");
        vm.assertEq(ledger.claimed(), 150, "claimed of the ledger");
        vm.assertEq(ledger.activeTotal(), 650, "highest total claimed against");
    }

    function test_second_claim_of_a_leaf_and_an_older_leaf_pay_nothing() public {
        Payouts memory first = payoutsOf(100, 0, 0);
        uint256 one = activate(first);
        Payouts memory second = payoutsOf(150, 0, 0);
        uint256 two = activate(second);
        claim(two, second, 0);
        expectClaimRefused(
            two, second, 0, abi.encodeWithSelector(ISettlementLedger.NothingToClaim.selector, ALICE, 150, 150)
        );
        expectClaimRefused(
            one, first, 0, abi.encodeWithSelector(ISettlementLedger.NothingToClaim.selector, ALICE, 100, 150)
        );
    }

    function test_claimTo_is_for_the_account_alone() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, one, ANYONE, 100));
        vm.prank(ANYONE);
        ledger.claimTo(ANYONE, one, 100, proof);
        address[2] memory wrong = [address(0), address(ledger)];
        for (uint256 i = 0; i < 2; ++i) {
            vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.RecipientInvalid.selector, wrong[i]));
            vm.prank(ALICE);
            ledger.claimTo(wrong[i], one, 100, proof);
        }
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.PayoutClaimed(ALICE, one, CAROL, 100, 100);
        vm.prank(ALICE);
        ledger.claimTo(CAROL, one, 100, proof);
        vm.assertEq(token.balanceOf(CAROL), 100, "paid where Alice wants it");
        vm.assertEq(ledger.claimedBy(ALICE), 100, "from Alice's part");
    }

    function test_wrong_amount_or_account_fails_the_proof() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, one, ALICE, 101));
        ledger.claim(ALICE, one, 101, proof);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, one, BOB, 100));
        ledger.claim(BOB, one, 100, proof);
    }

    function test_an_inner_node_is_no_leaf() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        // The pair under the root, read as (account, cumulative): the double hash keeps it from passing for a leaf.
        address account = address(uint160(uint256(payouts.nodes[1])));
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, one, account, uint256(payouts.nodes[2]))
        );
        ledger.claim(account, one, uint256(payouts.nodes[2]), new bytes32[](0));
    }

    function test_claimMany_puts_a_blacklisted_payee_back_and_pays_the_rest() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        token.setBlocked(BOB, true);
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.PayoutReturned(BOB, one, 200);
        vm.assertEq(ledger.claimMany(one, batchOf(payouts)), 400, "paid");
        vm.assertEq(ledger.claimed(), 400, "claimed");
        vm.assertEq(ledger.claimedBy(BOB), 0, "put back");
        vm.assertEq(ledger.owed(), 200, "still owed");
        token.setBlocked(BOB, false);
        vm.assertEq(claim(one, payouts, 1), 200, "and claimable later");
    }

    function test_claimMany_treats_a_false_as_a_refusal() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        token.setRefusesSilently(true);
        vm.assertEq(ledger.claimMany(one, batchOf(payouts)), 0, "paid");
        vm.assertEq(ledger.claimed(), 0, "claimed");
    }

    function test_front_run_batch_skips_the_leaf_already_claimed() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        claim(one, payouts, 1);
        vm.assertEq(ledger.claimMany(one, batchOf(payouts)), 400, "paid");
        vm.recordLogs();
        vm.assertEq(ledger.claimMany(one, batchOf(payouts)), 0, "and nothing the second time");
        vm.assertEq(vm.getRecordedLogs().length, 0, "without a transfer or an event");
        vm.assertEq(ledger.claimed(), 600, "claimed");
        vm.assertEq(token.balanceOf(BOB), 200, "paid once");
    }

    function test_same_leaf_twice_in_a_batch_is_paid_once() public {
        Payouts memory payouts = payoutsOf(ALICE, 100);
        uint256 one = activate(payouts);
        ISettlementLedger.Payout[] memory batch = new ISettlementLedger.Payout[](2);
        batch[0] = batch[1] = ISettlementLedger.Payout(ALICE, 100, new bytes32[](0));
        vm.assertEq(ledger.claimMany(one, batch), 100, "paid");
    }

    function test_bad_proof_reverts_the_whole_batch() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        ISettlementLedger.Payout[] memory batch = batchOf(payouts);
        batch[2].cumulative = 301;
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, one, CAROL, 301));
        ledger.claimMany(one, batch);
        vm.assertEq(ledger.claimed(), 0, "claimed");
    }

    function test_pause_stops_claims_and_ends_by_itself() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        uint256 until = block.timestamp + 7 days;
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.ClaimsPausedUntil(until, GUARDIAN);
        pause(7 days);
        bytes memory paused = abi.encodeWithSelector(ISettlementLedger.ClaimsPaused.selector, until);
        wait(7 days - 1);
        expectClaimRefused(one, payouts, 0, paused);
        ISettlementLedger.Payout[] memory batch = batchOf(payouts);
        vm.expectRevert(paused);
        ledger.claimMany(one, batch);
        bytes32[] memory proof = proofOf(payouts, 0);
        vm.expectRevert(paused);
        vm.prank(ALICE);
        ledger.claimTo(CAROL, one, 100, proof);
        vm.assertTrue(ledger.isActive(one), "the post stays active");
        wait(1);
        claim(one, payouts, 0);
    }

    function test_pause_is_bounded_and_cannot_be_chained() public {
        bytes4 outOfRange = ISettlementLedger.PauseOutOfRange.selector;
        vm.expectRevert(abi.encodeWithSelector(outOfRange, 7 days + 1, 7 days));
        pause(7 days + 1);
        vm.expectRevert(abi.encodeWithSelector(outOfRange, 0, 7 days));
        pause(0);
        pause(1 days);
        uint256 earliest = block.timestamp + 8 days;
        wait(8 days - 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PauseTooSoon.selector, earliest));
        pause(1 days);
        wait(1);
        pause(1 days);
    }

    function test_pause_can_be_lifted() public {
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        vm.expectRevert(ISettlementLedger.NotPaused.selector);
        vm.prank(GUARDIAN);
        ledger.resumeClaims();
        pause(7 days);
        vm.prank(GUARDIAN);
        ledger.resumeClaims();
        claim(one, payouts, 0);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PauseTooSoon.selector, block.timestamp + 7 days));
        pause(1);
    }

    function test_nothing_leaves_but_by_a_claim_until_the_ledger_has_been_idle_for_400_days() public {
        post(payoutsOf(100, 200, 300));
        uint256 earliest = block.timestamp + 400 days;
        wait(400 days - 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.TooEarlyToClose.selector, earliest));
        vm.prank(ADMIN);
        ledger.close(ADMIN);
        wait(1);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.RecipientInvalid.selector, address(0)));
        vm.prank(ADMIN);
        ledger.close(address(0));
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.LedgerClosed(ADMIN, MONEY - 600, ADMIN);
        vm.prank(ADMIN);
        ledger.close(ADMIN);
        vm.assertEq(ledger.free(), 0, "nothing is free");
        vm.assertEq(token.balanceOf(address(ledger)), ledger.owed(), "what is owed stays");
    }

    function test_a_post_starts_the_400_days_anew() public {
        wait(399 days);
        post(payoutsOf(100, 200, 300));
        uint256 earliest = block.timestamp + 400 days;
        wait(2 days);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.TooEarlyToClose.selector, earliest));
        vm.prank(ADMIN);
        ledger.close(ADMIN);
    }

    function test_other_tokens_have_a_way_out_and_the_ledger_s_own_has_none() public {
        TestToken other = new TestToken(18);
        other.mint(address(ledger), 7);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.TokenNotForeign.selector, address(token)));
        vm.prank(ADMIN);
        ledger.recover(token, ADMIN, 1);
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.TokenRecovered(address(other), ALICE, 7, ADMIN);
        vm.prank(ADMIN);
        ledger.recover(other, ALICE, 7);
        vm.assertEq(other.balanceOf(ALICE), 7, "recovered");
    }

    function test_the_ledger_itself_is_no_payee() public {
        Payouts memory payouts = payoutsOf(address(ledger), 1_000);
        uint256 one = activate(payouts);
        bytes memory refused = abi.encodeWithSelector(ISettlementLedger.RecipientInvalid.selector, address(ledger));
        expectClaimRefused(one, payouts, 0, refused);
        ISettlementLedger.Payout[] memory batch = batchOf(payouts);
        vm.expectRevert(refused);
        ledger.claimMany(one, batch);
        vm.assertEq(ledger.claimable(address(ledger), one, 1_000, proofOf(payouts, 0)), 0, "and nothing is claimable");
    }

    function test_claimable_is_no_more_than_the_ledger_can_pay() public {
        Payouts memory payouts = payoutsOf(100, 200, 0);
        uint256 one = activate(payouts);
        token.burn(address(ledger), MONEY - 50);
        vm.assertEq(ledger.claimable(ALICE, one, 100, proofOf(payouts, 0)), 0, "a clawed-back balance");
    }

    function test_overfunding_stays_free_and_underfunding_is_made_good() public {
        token.mint(address(ledger), 5);
        vm.assertEq(ledger.free(), MONEY + 5, "all is free");
        Payouts memory payouts = payoutsOf(100, 200, 300);
        uint256 one = activate(payouts);
        ledger.claimMany(one, batchOf(payouts));
        vm.assertEq(ledger.free(), MONEY + 5 - 600, "what nobody is owed is free");
    }

    /// @dev A root that promises more than its total pays first come, first served, and never more than the total.
    function testFuzz_claims_never_exceed_the_total(uint256 total, uint256 alice, uint256 bob) public {
        total = bound(total, 0, MONEY);
        alice = bound(alice, 1, MONEY);
        bob = bound(bob, 1, MONEY);
        Payouts memory payouts = payoutsOf(alice, bob, 1);
        uint256 one = post(rootOf(payouts), total);
        attest(one);
        wait(DELAY);
        uint256 paid = 0;
        for (uint256 i = 0; i < 3; ++i) {
            uint256 amount = payouts.cumulatives[i];
            bytes32[] memory proof = proofOf(payouts, i);
            vm.assertEq(
                ledger.claimable(payouts.accounts[i], one, amount, proof), paid + amount <= total ? amount : 0, "view"
            );
            if (paid + amount <= total) {
                claim(one, payouts, i);
                paid += amount;
            } else {
                bytes memory reason =
                    abi.encodeWithSelector(ISettlementLedger.ClaimsExceedTotal.selector, paid + amount, total);
                expectClaimRefused(one, payouts, i, reason);
            }
        }
        vm.assertEq(ledger.claimed(), paid, "claimed");
        vm.assertLe(paid, total, "within the total");
    }

    /// @dev Whatever is claimed on the way, in whatever order, by whichever function: the end is the same.
    function testFuzz_order_splitting_and_skipping_change_nothing(uint256 seed, uint64[9] memory steps) public {
        uint256[3] memory cumulative;
        Payouts[] memory posts = new Payouts[](3);
        for (uint256 k = 0; k < 3; ++k) {
            for (uint256 i = 0; i < 3; ++i) {
                cumulative[i] += bound(steps[3 * k + i], 0, MONEY / 9);
            }
            posts[k] = payoutsOf(cumulative[0], cumulative[1], cumulative[2]);
            post(posts[k]);
        }
        attest(3);
        wait(DELAY);
        for (uint256 step = 0; step < 8; ++step) {
            uint256 random = uint256(keccak256(abi.encode(seed, step)));
            claimSomehow(1 + (random % 3), posts[random % 3], (random >> 8) % 3, (random >> 16) % 4);
        }
        ledger.claimMany(3, batchOf(posts[2]));
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertEq(token.balanceOf(posts[2].accounts[i]), cumulative[i], "what it was ever owed");
        }
        vm.assertEq(ledger.claimed(), ledger.total(), "all is paid");
    }

    /// @dev Claims if there is something to claim; `way` 3 skips.
    function claimSomehow(uint256 sequence, Payouts memory payouts, uint256 i, uint256 way) internal {
        address account = payouts.accounts[i];
        bytes32[] memory proof = proofOf(payouts, i);
        if (way == 0) ledger.claimMany(sequence, batchOf(payouts));
        if (ledger.claimable(account, sequence, payouts.cumulatives[i], proof) == 0) return;
        if (way == 1) ledger.claim(account, sequence, payouts.cumulatives[i], proof);
        if (way == 2) {
            vm.prank(account);
            ledger.claimTo(account, sequence, payouts.cumulatives[i], proof);
        }
    }

    function pause(uint256 duration) internal {
        vm.prank(GUARDIAN);
        ledger.pauseClaims(duration);
    }
}
