// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ISettlementLedger} from "../src/ISettlementLedger.sol";
import {LedgerTest} from "./LedgerTest.sol";
import {vm} from "./Vm.sol";

/// @notice Posts, attestations, disputes and revocations.
contract PostingTest is LedgerTest {
    function test_genesis_binds_chain_ledger_token_and_currency() public view {
        bytes32 tag = keccak256("Genesis(uint256 chainId,address ledger,address token,bytes3 currency,bytes32 log,uint64 firstEpochStart)");
        bytes32 genesis = keccak256(abi.encode(tag, 1, address(ledger), address(token), bytes3("USD"), bytes32("log"), START - 1 days));
        vm.assertEq(ledger.head(), genesis, "genesis");
        vm.assertEq(ledger.nextSequence(), 1, "sequences begin at 1");
        vm.assertTrue(!ledger.isActive(0), "the empty post before the first is not active");
    }

    function test_post_writes_everything_and_folds_it_into_the_head() public {
        bytes32 tag = keccak256(
            "Post(uint256 sequence,bytes32 previousHead,bytes32 windowsRoot,bytes32 payoutsRoot,bytes32 manifestHash,uint64 epochStart,uint64 epochEnd,uint256 total,uint256 deposits)"
        );
        bytes32 genesis = ledger.head();
        uint64 end = uint64(START);
        bytes32 head = keccak256(
            abi.encode(
                tag, 1, genesis, bytes32("windows"), bytes32("payouts"), bytes32("manifest"), end - 60, end, 5e6, 3e6
            )
        );
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.EpochPosted(
            1, head, genesis, "windows", "payouts", "manifest", end - 60, end, 5e6, 3e6, START + DELAY, POSTER
        );
        vm.prank(POSTER);
        ledger.post(1, genesis, "windows", "payouts", "manifest", end - 60, end, 5e6, 3e6);

        vm.assertEq(ledger.head(), head, "head");
        vm.assertEq(ledger.nextSequence(), 2, "next sequence");
        vm.assertEq(ledger.total(), 5e6, "total");
        vm.assertEq(ledger.epochEnd(), end, "epoch end");
        vm.assertEq(ledger.owed(), 5e6, "owed");
        vm.assertEq(ledger.deposits(), 3e6, "deposits");
        vm.assertEq(ledger.free(), MONEY - 8e6, "free");
        ISettlementLedger.Post memory posted = ledger.getPost(1);
        vm.assertEq(posted.windowsRoot, "windows", "windows root");
        vm.assertEq(posted.payoutsRoot, "payouts", "payouts root");
        vm.assertEq(posted.total, 5e6, "total of the post");
        vm.assertEq(posted.deposits, 3e6, "deposits of the post");
        vm.assertEq(posted.epochEnd, end, "end of the post");
        vm.assertEq(posted.delayEnd, START + DELAY, "end of the delay");
    }

    function test_post_must_follow_sequence_and_head() public {
        bytes32 genesis = ledger.head();
        expectPostRefused(
            2, genesis, START - 1, START, 0, abi.encodeWithSelector(ISettlementLedger.SequenceMismatch.selector, 2, 1)
        );
        expectPostRefused(
            1, "other", START - 1, START, 0,
            abi.encodeWithSelector(ISettlementLedger.HeadMismatch.selector, bytes32("other"), genesis)
        );
    }

    function test_post_must_follow_in_time() public {
        post(bytes32("root"), 1);
        bytes32 head = ledger.head();
        uint256 last = ledger.epochEnd();
        wait(1 hours);
        expectPostRefused(
            2, head, last, last, 1, abi.encodeWithSelector(ISettlementLedger.EpochEmpty.selector, last, last)
        );
        expectPostRefused(
            2, head, last - 1, last + 1, 1,
            abi.encodeWithSelector(ISettlementLedger.EpochOverlaps.selector, last - 1, last)
        );
        uint256 future = block.timestamp + 1;
        expectPostRefused(
            2, head, last, future, 1,
            abi.encodeWithSelector(ISettlementLedger.EpochNotOver.selector, future, block.timestamp)
        );
    }

    function test_totals_never_fall_and_grow_with_time_at_most() public {
        post(bytes32("root"), 100);
        vm.prank(ADMIN);
        ledger.setMaxRate(100 days);
        bytes32 head = ledger.head();
        uint256 start = block.timestamp;
        wait(1);
        expectPostRefused(
            2, head, start, start + 1, 99, abi.encodeWithSelector(ISettlementLedger.TotalFalls.selector, 99, 100)
        );
        expectPostRefused(
            2, head, start, start + 1, 201, abi.encodeWithSelector(ISettlementLedger.RateTooHigh.selector, 101, 100)
        );
        post(bytes32("root"), 200);
        vm.assertEq(ledger.total(), 200, "as much as the time allows");
        wait(59);
        post(bytes32("root"), 6_200);
        vm.assertEq(ledger.total(), 6_200, "by the time since the post before, not by its own epochs");
    }

    /// @dev A hundred posts in one block add what one could: the limit is of time, not of a post.
    function test_many_posts_add_no_more_than_one() public {
        vm.prank(ADMIN);
        ledger.setMaxRate(1 days);
        for (uint256 i = 0; i < 100; ++i) {
            post(bytes32(i), ledger.total() + (i == 0 ? 86_401 : 1));
        }
        bytes32 head = ledger.head();
        wait(1);
        expectPostRefused(
            101, head, block.timestamp - 1, block.timestamp, ledger.total() + 2,
            abi.encodeWithSelector(ISettlementLedger.RateTooHigh.selector, 2, 1)
        );
    }

    function test_nothing_before_the_first_epoch_is_posted() public {
        bytes32 head = ledger.head();
        expectPostRefused(
            1, head, START - 1 days - 1, START, 0,
            abi.encodeWithSelector(ISettlementLedger.EpochOverlaps.selector, START - 1 days - 1, START - 1 days)
        );
    }

    function test_posting_can_be_paused_while_a_stolen_key_is_replaced() public {
        vm.prank(GUARDIAN);
        ledger.pausePosting(7 days);
        uint256 until = block.timestamp + 7 days;
        bytes32 head = ledger.head();
        wait(1);
        expectPostRefused(
            1, head, block.timestamp - 1, block.timestamp, 0,
            abi.encodeWithSelector(ISettlementLedger.PostingPaused.selector, until)
        );
        wait(8 days);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PauseTooSoon.selector, until + 7 days));
        vm.prank(GUARDIAN);
        ledger.pausePosting(1);
        post(bytes32("root"), 0);
        wait(6 days);
        vm.prank(GUARDIAN);
        ledger.pausePosting(1 days);
        vm.prank(GUARDIAN);
        ledger.resumePosting();
        post(bytes32("root"), 0);
        vm.expectRevert(ISettlementLedger.NotPaused.selector);
        vm.prank(GUARDIAN);
        ledger.resumePosting();
    }

    /// @dev Two guardians have judged the wrong post; the second dispute is mined after the right one has its place.
    function test_a_late_dispute_kills_nothing_that_it_has_not_judged() public {
        uint256 wrong = post(payoutsOf(ANYONE, MONEY));
        bytes32 judged = ledger.head();
        dispute(wrong);
        uint256 right = post(payoutsOf(ALICE, 10));
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.HeadMismatch.selector, judged, ledger.head()));
        vm.prank(GUARDIAN);
        ledger.dispute(wrong, judged);
        vm.assertEq(ledger.nextSequence(), right + 1, "it lives");
    }

    function test_total_must_fit_its_storage() public {
        vm.expectRevert(abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 96, uint256(2 ** 96)));
        vm.prank(ADMIN);
        ledger.setMaxRate(2 ** 96);
        vm.prank(ADMIN);
        ledger.setMaxRate(2 ** 96 - 1);
        token.mint(address(ledger), 2 ** 96);
        post(bytes32("root"), 2 ** 96 - 1);
        bytes32 head = ledger.head();
        wait(1);
        expectPostRefused(
            2, head, block.timestamp - 1, block.timestamp, 2 ** 96,
            abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 96, uint256(2 ** 96))
        );
    }

    function test_unfunded_post_is_refused_and_can_be_made_in_arrears() public {
        Payouts memory first = payoutsOf(MONEY, 0, 0);
        uint256 one = post(first);
        bytes32 head = ledger.head();
        wait(1);
        expectPostRefused(
            2, head, block.timestamp - 1, block.timestamp, MONEY + 1,
            abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, MONEY, MONEY + 1, 0)
        );
        uint256 two = post(rootOf(first), first.total); // In arrears: new windows, the payouts of before.
        token.mint(address(ledger), 1);
        Payouts memory third = payoutsOf(MONEY, 1, 0);
        uint256 three = post(third);
        attest(three);
        wait(DELAY);
        claim(one, first, 0);
        expectClaimRefused(
            two, first, 0,
            abi.encodeWithSelector(ISettlementLedger.NothingToClaim.selector, ALICE, MONEY, MONEY)
        );
        claim(three, third, 1);
        vm.assertEq(token.balanceOf(BOB), 1, "paid once funded");
        vm.assertEq(ledger.owed(), 0, "nothing owed");
    }

    function test_post_covers_deposits_beside_what_is_owed_to_the_unit() public {
        token.burn(address(ledger), MONEY - 1_000);
        bytes32 head = ledger.head();
        expectDepositsRefused(1, head, 700, 301, abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 1_000, 700, 301));
        // In arrears as well: nothing more is owed, and the deposits are there all the same.
        expectDepositsRefused(1, head, 0, 1_001, abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 1_000, 0, 1_001));
        // No sum of the two can be made to overflow.
        expectDepositsRefused(
            1, head, 1, type(uint256).max,
            abi.encodeWithSelector(ISettlementLedger.Underfunded.selector, 1_000, 1, type(uint256).max)
        );
        Payouts memory payouts = payoutsOf(700, 0, 0);
        uint256 one = post(rootOf(payouts), payouts.total, 300);
        vm.assertEq(ledger.deposits(), 300, "deposits");
        vm.assertEq(ledger.owed(), 700, "deposits are owed to nobody yet");
        vm.assertEq(ledger.free(), 0, "and not free");
        attest(one);
        wait(DELAY);
        claim(one, payouts, 0);
        vm.assertEq(token.balanceOf(address(ledger)), 300, "claims leave the deposits");
    }

    function test_deposits_become_payouts_and_refunds_without_new_funds() public {
        token.burn(address(ledger), MONEY - 500);
        post(bytes32(0), 0, 500); // Carol paid 500 for a session.
        // It used 320: Alice and Bob earned that, and Carol is owed the rest.
        Payouts memory payouts = payoutsOf(200, 120, 180);
        uint256 two = post(rootOf(payouts), payouts.total, 0);
        attest(two);
        wait(DELAY);
        ledger.claimMany(two, batchOf(payouts));
        vm.assertEq(token.balanceOf(CAROL), 180, "refunded");
        vm.assertEq(token.balanceOf(address(ledger)), 0, "all that was paid has found its owner");
    }

    function test_dispute_brings_back_the_deposits_of_the_post_before() public {
        post(bytes32("one"), 0, 500);
        uint256 two = post(bytes32("two"), 0, 0);
        vm.assertEq(ledger.deposits(), 0, "of the last post");
        dispute(two);
        vm.assertEq(ledger.deposits(), 500, "of the one before");
        dispute(1);
        vm.assertEq(ledger.deposits(), 0, "of none");
    }

    function test_deposits_that_do_not_fit_are_refused() public {
        token.mint(address(ledger), 2 ** 88);
        bytes32 head = ledger.head();
        expectDepositsRefused(
            1, head, 0, 2 ** 88,
            abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, 88, uint256(2 ** 88))
        );
        post(bytes32("root"), 0, 2 ** 88 - 1);
        vm.assertEq(ledger.deposits(), 2 ** 88 - 1, "the most");
    }

    function test_first_post_can_be_in_arrears() public {
        token.burn(address(ledger), MONEY);
        post(bytes32(0), 0);
        vm.assertEq(ledger.nextSequence(), 2, "posted without any money");
    }

    function test_attested_only_with_the_current_head() public {
        uint256 one = post(bytes32("one"), 1);
        bytes32 seen = ledger.head();
        uint256 two = post(bytes32("two"), 2);
        bytes memory mismatch = abi.encodeWithSelector(ISettlementLedger.HeadMismatch.selector, seen, ledger.head());
        vm.expectRevert(mismatch);
        vm.prank(AUDITOR);
        ledger.attest(one, seen);

        attest(one); // Having seen the current head, the auditor may still vouch for a part only.
        wait(DELAY);
        vm.assertTrue(ledger.isActive(one), "the attested one is active");
        vm.assertTrue(!ledger.isActive(two), "the other is not");
    }

    function test_attestation_reaches_back_but_not_ahead() public {
        post(bytes32("one"), 1);
        uint256 two = post(bytes32("two"), 2);
        attest(two);
        vm.assertEq(ledger.attested(), two, "both are attested");
        bytes32 head = ledger.head();
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostAttested.selector, 1, two));
        vm.prank(AUDITOR);
        ledger.attest(1, head);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostUnknown.selector, 3));
        vm.prank(AUDITOR);
        ledger.attest(3, head);
    }

    function test_active_needs_attestation_and_delay_to_the_second() public {
        uint256 one = post(bytes32("one"), 1);
        attest(one);
        wait(DELAY - 1);
        vm.assertTrue(!ledger.isActive(one), "a second too early");
        wait(1);
        vm.assertTrue(ledger.isActive(one), "now");
        uint256 two = post(bytes32("two"), 2);
        wait(DELAY * 10);
        vm.assertTrue(!ledger.isActive(two), "never without an attestation");
    }

    function test_stale_root_after_a_dispute_cannot_be_claimed_or_revived() public {
        Payouts memory honest = payoutsOf(10, 0, 0);
        Payouts memory theft = payoutsOf(ANYONE, MONEY);
        uint256 one = post(honest);
        uint256 two = post(theft);
        uint256 three = post(theft);
        dispute(two);
        vm.assertEq(ledger.nextSequence(), two, "the next post takes the disputed one's place");
        vm.assertEq(ledger.total(), honest.total, "the total is the one before");
        attest(one);
        wait(DELAY * 2);
        expectNotActive(two, theft, 0);
        expectNotActive(three, theft, 0);

        // The place is taken by an honest post; the stale root above it, attested or not, stays dead.
        Payouts memory better = payoutsOf(10, 5, 0);
        post(better);
        attest(two);
        wait(DELAY * 2);
        vm.assertEq(ledger.getPost(two).payoutsRoot, rootOf(better), "the honest root");
        expectNotActive(three, theft, 0);
        bytes32[] memory proof = proofOf(theft, 0);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.ProofInvalid.selector, two, ANYONE, MONEY));
        ledger.claim(ANYONE, two, MONEY, proof);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostUnknown.selector, three));
        ledger.getPost(three);
        bytes32 head = ledger.head();
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostUnknown.selector, three));
        vm.prank(GUARDIAN);
        ledger.dispute(three, head);

        post(better);
        vm.assertEq(ledger.getPost(three).payoutsRoot, rootOf(better), "overwritten before it lives");
        vm.assertTrue(!ledger.isActive(three), "and not active");
        vm.assertEq(claim(two, better, 1), 5, "the honest root pays");
    }

    function test_dispute_of_an_attested_post_takes_the_attestation_back() public {
        Payouts memory honest = payoutsOf(10, 0, 0);
        post(honest);
        uint256 two = post(payoutsOf(20, 0, 0));
        attest(two);
        dispute(two);
        vm.assertEq(ledger.attested(), 1, "what stays attested is what came before");
        post(payoutsOf(30, 0, 0));
        wait(DELAY);
        vm.assertTrue(ledger.isActive(1), "the first is active");
        vm.assertTrue(!ledger.isActive(two), "the new second was never attested");
    }

    function test_dispute_folds_into_the_head() public {
        uint256 one = post(bytes32("one"), 1);
        bytes32 head = ledger.head();
        bytes32 tag = keccak256("Dispute(bytes32 previousHead,uint256 sequence)");
        bytes32 folded = keccak256(abi.encode(tag, head, one));
        vm.expectEmit(address(ledger));
        emit ISettlementLedger.PostDisputed(one, one + 1, folded, GUARDIAN);
        dispute(one);
        vm.assertEq(ledger.head(), folded, "folded");
        vm.assertEq(ledger.total(), 0, "back at nothing");
        vm.assertEq(ledger.epochEnd(), START - 1 days, "and at the first epoch");
    }

    function test_mature_post_cannot_be_disputed_even_when_revoked() public {
        uint256 one = activate(payoutsOf(10, 0, 0));
        bytes memory mature = abi.encodeWithSelector(ISettlementLedger.PostMature.selector, one);
        bytes32 head = ledger.head();
        vm.expectRevert(mature);
        vm.prank(GUARDIAN);
        ledger.dispute(one, head);
        revoke(one);
        vm.expectRevert(mature);
        vm.prank(GUARDIAN);
        ledger.dispute(one, head);
    }

    function test_stolen_poster_key_takes_nothing() public {
        Payouts memory theft = payoutsOf(ANYONE, MONEY);
        uint256 one = post(theft);
        wait(365 days);
        expectNotActive(one, theft, 0);
        bytes32 head = ledger.head();
        bytes32 role = ledger.AUDITOR_ROLE();
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, POSTER, role)
        );
        vm.prank(POSTER);
        ledger.attest(one, head);
        dispute(one); // However late: what nobody attested can always be disputed.
        expectNotActive(one, theft, 0);
        vm.assertEq(token.balanceOf(address(ledger)), MONEY, "all the money is there");
        vm.assertEq(ledger.free(), MONEY, "and free");
    }

    function test_one_leaf_root_for_all_the_free_money_waits_for_auditor_delay_and_guardian() public {
        Payouts memory honest = payoutsOf(10, 20, 30);
        uint256 one = activate(honest);
        Payouts memory theft = payoutsOf(ANYONE, MONEY);
        uint256 two = post(theft);
        attest(two); // Even with the auditor's key the guardian has the whole delay.
        wait(DELAY - 1);
        expectNotActive(two, theft, 0);
        dispute(two);
        wait(DELAY);
        expectNotActive(two, theft, 0);
        ledger.claimMany(one, batchOf(honest));
        vm.assertEq(ledger.claimed(), 60, "the honest are paid");
    }

    function test_revoke_loses_nothing() public {
        Payouts memory first = payoutsOf(10, 20, 0);
        uint256 one = activate(first);
        claim(one, first, 0);
        Payouts memory second = payoutsOf(15, 25, 5);
        uint256 two = activate(second);
        revoke(one);
        revoke(two);
        expectNotActive(one, first, 1);
        expectNotActive(two, second, 0);
        vm.assertEq(ledger.owed(), 35, "still owed");

        Payouts memory third = payoutsOf(15, 25, 6);
        uint256 three = activate(third);
        ledger.claimMany(three, batchOf(third));
        vm.assertEq(token.balanceOf(ALICE), 15, "Alice has all");
        vm.assertEq(token.balanceOf(BOB), 25, "Bob has all");
        vm.assertEq(token.balanceOf(CAROL), 6, "Carol has all");
        vm.assertEq(ledger.owed(), 0, "nothing owed");
    }

    function test_only_an_active_post_is_revoked() public {
        uint256 one = post(bytes32("one"), 1);
        vm.expectRevert(abi.encodeWithSelector(ISettlementLedger.PostNotActive.selector, one));
        vm.prank(ADMIN);
        ledger.revoke(one);
    }

    /// @dev However many posts it kills, a dispute costs the same. Isolated, so that each call pays for its own storage.
    /// forge-config: default.isolate = true
    function test_dispute_costs_the_same_after_hundreds_of_posts() public {
        post(bytes32("before"), 1);
        post(bytes32("one"), 2);
        uint256 gasOfOne = gasOfDispute(2);
        for (uint256 i = 0; i < 400; ++i) {
            post(keccak256(abi.encode(i)), 2 + i);
        }
        vm.assertEq(gasOfDispute(2), gasOfOne, "gas of a dispute");
        vm.assertEq(ledger.nextSequence(), 2, "all are dead");
    }

    function gasOfDispute(uint256 sequence) internal returns (uint256) {
        dispute(sequence);
        return vm.lastCallGas().gasTotalUsed;
    }

    function expectPostRefused(
        uint256 sequence,
        bytes32 head,
        uint256 start,
        uint256 end,
        uint256 total,
        bytes memory reason
    ) internal {
        vm.expectRevert(reason);
        vm.prank(POSTER);
        ledger.post(sequence, head, "windows", "payouts", "manifest", uint64(start), uint64(end), total, 0);
    }

    function expectDepositsRefused(
        uint256 sequence,
        bytes32 head,
        uint256 total,
        uint256 deposits,
        bytes memory reason
    ) internal {
        uint64 end = uint64(block.timestamp);
        vm.expectRevert(reason);
        vm.prank(POSTER);
        ledger.post(sequence, head, "windows", "payouts", "manifest", end - 1, end, total, deposits);
    }
}
